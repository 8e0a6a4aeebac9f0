"""Run jobs on this machine, several at a time, with its cores and GPUs divided among them."""

import os
from collections.abc import Mapping, Sequence

import torch

from vaelab.runs.processes.cores import CORES, cores
from vaelab.runs.processes.pool import DiedError, Pool, fork_server
from vaelab.runs.validate import check_whole, processes_of
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import JobsLauncher, Running
from vaelab.sweeps.worker import perform_or_interrupted


class Local(JobsLauncher):
    """Runs each job in its own process, forked from a server process that has already imported the packages.

    Args:
        n_jobs: how many jobs run at a time; None for as many as the GPUs allow, or the cores if there is no GPU.
        jobs_per_gpu: how many jobs share a GPU.
    """

    def __init__(self, n_jobs: int | None = None, jobs_per_gpu: int = 1) -> None:
        if n_jobs is not None:
            check_whole("hydra.launcher.n_jobs", n_jobs, 1)
        check_whole("hydra.launcher.jobs_per_gpu", jobs_per_gpu, 1)
        self.n_jobs = n_jobs
        self.jobs_per_gpu = jobs_per_gpu

    def run(self, jobs: Sequence[JobSpec]) -> Running:
        shares = slots_for(jobs, self.n_jobs, self.jobs_per_gpu)
        with Pool(fork_server(__name__), _work, [dict(os.environ) | share for share in shares]) as self.pool:
            for ended in self.pool.run(jobs):
                # its process crashed, or was stopped before it could answer
                if ended is not None and isinstance(ended[1], DiedError):
                    state = "interrupted" if self.pool.stopping else "failed"
                    ended = ended[0], Outcome(state, error=f"its process {ended[1]}")
                yield ended

    def stop(self) -> None:
        self.pool.stop()


def _work(job: JobSpec, environment: Mapping[str, str]) -> Outcome:
    os.environ.clear()  # the server may have an earlier sweep's environment
    os.environ.update(environment)
    return perform_or_interrupted(job, answerable=False)


def slots_for(jobs: Sequence[JobSpec], n_jobs: int | None, jobs_per_gpu: int) -> list[dict[str, str]]:
    """Return environment variables for each job that runs at a time, which name the job's cores and GPUs."""
    runtimes = [job.config["runtime"] for job in jobs]
    width = max(map(processes_of, runtimes))
    on_gpus = all(runtime["accelerator"] != "cpu" for runtime in runtimes)
    gpus = visible_gpus() if on_gpus else []
    by_number = any(isinstance(runtime["devices"], list) for runtime in runtimes)
    places = 1 if by_number else max(1, len(gpus) // width)
    number = n_jobs or (places * jobs_per_gpu if gpus else max(1, cores() // width))
    if number == 1:
        return [{}]
    share = max(1, cores() // number)
    slots = [{CORES: str(share)} for _ in range(number)]
    if gpus and not by_number:
        for i, slot in enumerate(slots):
            first = i % places * width
            slot["CUDA_VISIBLE_DEVICES"] = ",".join(gpus[first : first + width])
    return slots


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not torch.cuda.device_count():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
