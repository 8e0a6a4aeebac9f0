"""Run jobs on this machine, several at a time, with its cores and GPUs divided among them."""

import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any

import torch

from vaelab.runs.processes.cores import CORES, cores
from vaelab.runs.validate import processes_of
from vaelab.sweeps.job import JobSpec
from vaelab.sweeps.launchers.base import Ended, check_whole
from vaelab.sweeps.worker import Worker, start_server

TICK = 0.25  # seconds


class Local:
    """Each job has a worker, forked from a server that has imported everything.

    Args:
        n_jobs: jobs that run at a time; None: as many as there are GPUs for, or cores where there is no GPU.
        jobs_per_gpu: jobs that share a GPU.
    """

    def __init__(self, n_jobs: int | None = None, jobs_per_gpu: int = 1) -> None:
        check_whole(n_jobs=n_jobs, jobs_per_gpu=jobs_per_gpu)
        self.n_jobs = n_jobs
        self.jobs_per_gpu = jobs_per_gpu
        self.stopping = False
        self.waiting: deque[tuple[int, JobSpec]] = deque()
        self.running: dict[Any, tuple[int, Worker, dict[str, str]]] = {}

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        """Do nothing."""

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        slots = slots_for(jobs, self.n_jobs, self.jobs_per_gpu)
        self.waiting.extend(enumerate(jobs))
        start_server()
        try:
            while self.waiting or self.running:
                while self.waiting and slots:
                    number, job = self.waiting.popleft()
                    slot = slots.popleft()
                    worker = Worker(job.given(slot))
                    self.running[worker.sentinel] = number, worker, slot
                for sentinel in wait(list(self.running), TICK):
                    number, worker, slot = self.running.pop(sentinel)
                    slots.append(slot)
                    yield number, worker.outcome(self.stopping)
                yield None
        except BaseException:  # a second Ctrl-C, or a bug
            for _, worker, _ in self.running.values():
                worker.send(signal.SIGKILL)
            raise

    def stop(self) -> None:
        self.stopping = True
        self.waiting.clear()
        for _, worker, _ in self.running.values():
            worker.send(signal.SIGTERM)  # a terminal has sent SIGINT already, and a second one would stop at once


def slots_for(jobs: Sequence[JobSpec], n_jobs: int | None, jobs_per_gpu: int) -> deque[dict[str, str]]:
    """Return the share of each job that runs at a time: environment variables that name its threads and its GPUs.

    Args:
        jobs: all jobs, because `runtime` says what each needs.
        n_jobs: jobs that run at a time; None: as many as there are devices for.
        jobs_per_gpu: jobs that share a GPU.
    """
    runtimes = [job.config["runtime"] for job in jobs]
    width = max(map(processes_of, runtimes))
    on_gpus = all(runtime["accelerator"] != "cpu" for runtime in runtimes)
    gpus = visible_gpus() if on_gpus and torch.cuda.device_count() else []
    by_number = any(isinstance(runtime["devices"], list) for runtime in runtimes)
    places = 1 if by_number else max(1, len(gpus) // width)
    number = n_jobs or (places * jobs_per_gpu if gpus else max(1, cores() // width))
    share = max(1, cores() // number)
    threads = {} if "OMP_NUM_THREADS" in os.environ else {"OMP_NUM_THREADS": str(max(1, share // width))}
    slots = deque(({CORES: str(share)} | threads if number > 1 else {}) for _ in range(number))
    if gpus and number > 1 and not by_number:
        for i, slot in enumerate(slots):
            first = i % places * width
            slot["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + width])
    return slots


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
