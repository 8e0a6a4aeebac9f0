"""A process of its own for each contender, so that none shares an allocator, a thread pool or a peak with another.

The script of a contender ends in `serve(make)`; `run.py` starts it as a `Worker` and asks for timings one at a time. A
request and its answer are a line of JSON each, on the process's standard input and output. This module needs PyTorch
alone, because the script of another library runs in an environment without vaelab.
"""

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
SEEDS = {"cpu": 4, "cuda": 16}  # that are trained together
Loop = Callable[[int], tuple[int, float]]  # takes about so many optimiser steps; returns how many, and the seconds


@dataclass(frozen=True)
class Network:
    """The paper's network: a hidden layer each in encoder and decoder, and parallel linear layers on the first."""

    hidden: int
    latent: int
    batch_size: int

    def __str__(self) -> str:
        return f"784-{self.hidden}-{self.latent}-{self.hidden}-784, batch {self.batch_size}"


@dataclass(frozen=True)
class Job:
    """What a worker times.

    Attributes:
        contender: which of the script's contenders.
        levels: a file with the training images, bytes [examples, 784].
        threads: of PyTorch on the CPU; None for its own choice.
    """

    contender: str
    network: Network
    levels: str
    device: str
    threads: int | None

    def images(self) -> Tensor:
        return torch.from_numpy(np.load(self.levels))


class WorkerError(RuntimeError):
    """A worker that ended instead of answering; the message is the last line that it wrote."""


class Worker:
    """The process that times one contender, seen from the process that asks."""

    def __init__(self, python: str, script: str, job: Job, folder: Path) -> None:
        self.log = folder / f"{job.contender}.log"
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                [python, str(HERE / script), json.dumps(asdict(job))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def ask(self, **request: int) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Raises:
            WorkerError: the worker ended.
        """
        assert self.process.stdin
        with suppress(BrokenPipeError):  # `answer` says why
            print(json.dumps(request), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            written = self.log.read_text().strip().splitlines() or ["no message"]
            raise WorkerError(written[-1])
        return json.loads(line)

    def close(self) -> None:
        """Ends the worker, which ends processes of its own; by force if it does not."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def serve(make: Callable[[Job], Loop], notes: list[str] | None = None) -> None:
    """Makes the loop of the job on the command line, and answers requests until standard input closes.

    Args:
        make: makes the loop; what it does is in no timing.
        notes: what a reader of the numbers should know, by the time of each answer.
    """
    fields = json.loads(sys.argv[1])
    job = Job(**fields | {"network": Network(**fields["network"])})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    loop = make(job)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("profile"):
            found: dict[str, Any] = {"kernel_ms": kernel_ms(loop, request["steps"])}
        else:
            steps, seconds = loop(request["steps"])
            found = {"ms": seconds / steps * 1e3, "steps": steps} | peaks()
        print(json.dumps(found | {"notes": notes or []}), file=answers, flush=True)


def timed(body: Callable[[int], None], job: Job) -> Loop:
    """The loop that takes exactly the steps that `body` is told to."""

    def loop(steps: int) -> tuple[int, float]:
        start = now(job.device)
        body(steps)
        return steps, now(job.device) - start

    return loop


def now(device: str) -> float:
    """The time in seconds, once the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peaks() -> dict[str, float]:
    """Peak memory of this process and its children so far, in MiB: resident, and allocated by PyTorch on the GPU."""
    if Path("/proc/self/status").exists():  # a child's `ru_maxrss` begins at its parent's
        processes = ["self", *(child.pid for child in multiprocessing.active_children())]
        lines = [line for name in processes for line in Path(f"/proc/{name}/status").read_text().splitlines()]
        resident = sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    else:
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    return {"resident_mib": resident / 2**10, "cuda_mib": on_gpu / 2**20}


def kernel_ms(loop: Loop, steps: int) -> float:
    """The time of all kernels and copies on the GPU, in ms per optimiser step.

    What a call takes beside the steps that it is asked for is in both of two profiles, and drops out between them.
    """
    os.environ.setdefault("TEARDOWN_CUPTI", "0")  # a second profile of a process with CUDA graphs may crash otherwise
    return (profiled_ms(loop, 2 * steps) - profiled_ms(loop, steps)) / steps


def profiled_ms(loop: Loop, steps: int) -> float:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        loop(steps)
        torch.cuda.synchronize()
    microseconds = sum(
        event.time_range.elapsed_us()
        for event in profiler.events() or []
        if event.device_type == torch.autograd.DeviceType.CUDA and not getattr(event, "is_user_annotation", False)
    )
    return microseconds / 1e3
