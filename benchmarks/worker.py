"""Run each contender in its own process, so that none shares an allocator, a thread pool or peak memory with another.

A contender's script ends in `serve(make)`. `run.py` starts it as a `Worker` and requests one timing at a time. Requests
and answers are lines of JSON on the process's standard input and output. This module imports PyTorch and NumPy only,
because pythae's script runs in an environment without vaelab.
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
SEEDS = {"cpu": 4, "cuda": 16}  # number of seeds trained together
Loop = Callable[[int], tuple[int, float]]  # takes about n optimiser steps; returns the steps timed and their seconds


@dataclass(frozen=True)
class Network:
    """The sizes of the paper's network, which has one hidden layer in the encoder and one in the decoder."""

    hidden: int
    latent: int
    batch_size: int

    def __str__(self) -> str:
        return f"784-{self.hidden}-{self.latent}-{self.hidden}-784, batch {self.batch_size}"


@dataclass(frozen=True)
class Job:
    """The task of a worker.

    Attributes:
        contender: the name in `run.CONTENDERS`.
        data: the name of the data set.
        levels: a file with its training images as bytes, [examples, 784].
        threads: of PyTorch on the CPU; None for PyTorch's choice.
    """

    contender: str
    network: Network
    data: str
    levels: str
    device: str
    threads: int | None

    def images(self) -> Tensor:
        return torch.from_numpy(np.load(self.levels))


class WorkerError(RuntimeError):
    """A worker ended without an answer. The message is the last line of its log."""


class Worker:
    """A handle on the process that times one contender."""

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
        """Send a request, and wait for its answer.

        Raises:
            WorkerError: the worker ended.
        """
        assert self.process.stdin
        with suppress(BrokenPipeError):  # `answer` then raises the reason
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
        """Close the worker's input, which ends it, and kill it if it does not end."""
        try:
            self.process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def serve(make: Callable[[Job], Loop], notes: list[str] | None = None) -> None:
    """Make the loop of the job on the command line, and answer requests until standard input closes.

    Args:
        make: makes the loop; it is not timed.
        notes: remarks on the numbers, to which the loop may add.
    """
    fields = json.loads(sys.argv[1])
    job = Job(**fields | {"network": Network(**fields["network"])})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # so that libraries print to the log, not among the answers
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    loop = make(job)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("profile"):
            answer: dict[str, Any] = {"kernel_ms": kernel_ms(loop, request["steps"])}
        else:
            steps, seconds = loop(request["steps"])
            answer = {"ms": seconds / steps * 1e3, "steps": steps} | peaks()
        print(json.dumps(answer | {"notes": notes or []}), file=answers, flush=True)


def timed(body: Callable[[int], None], job: Job) -> Loop:
    """Return a loop that times `body`, which takes exactly as many steps as it is asked for."""

    def loop(steps: int) -> tuple[int, float]:
        start = now(job.device)
        body(steps)
        return steps, now(job.device) - start

    return loop


def now(device: str) -> float:
    """Return the time in seconds, once the device has finished its work."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peaks() -> dict[str, float]:
    """Return the peak memory of this process and its children in MiB: resident, and allocated on the GPU."""
    if Path("/proc/self/status").exists():  # better than `ru_maxrss`, which a child inherits from its parent
        processes = ["self", *(child.pid for child in multiprocessing.active_children())]
        lines = [line for name in processes for line in Path(f"/proc/{name}/status").read_text().splitlines()]
        resident = sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    else:
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    on_gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else 0
    return {"resident_mib": resident / 2**10, "cuda_mib": on_gpu / 2**20}


def kernel_ms(loop: Loop, steps: int) -> float:
    """Return the time of all kernels and copies on the GPU, in ms per optimiser step.

    Two profiles of different length are subtracted, so that the warm-up of a call cancels.
    """
    os.environ.setdefault("TEARDOWN_CUPTI", "0")  # or the second profile of a process with CUDA graphs may crash
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
