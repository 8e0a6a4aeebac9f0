"""Run jobs as tasks of Ray, on this machine or on a cluster, each with the cores and GPUs that it asks for."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from vaelab.errors import ConfigError
from vaelab.runs.processes.cores import CORES, THREADS, cores
from vaelab.runs.validate import check_whole, processes_of
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import JobsLauncher, Running
from vaelab.sweeps.worker import perform_or_interrupted

TICK = 0.5  # seconds
QUIET = {"log_to_driver": False, "logging_level": "error", "include_dashboard": False}


class Ray(JobsLauncher):
    """Runs each job as a task in its own Ray worker, which sees only its own GPUs.

    Args:
        init: arguments of `ray.init`, such as `address`.
        remote: options of each task, such as `num_cpus`. The default `num_gpus` on a cluster with GPUs is `devices`,
            or 1 / `jobs_per_gpu` for a job on a single device.
        jobs_per_gpu: how many jobs share a GPU.
    """

    def __init__(self, init: Mapping[str, Any], remote: Mapping[str, Any], jobs_per_gpu: int = 1) -> None:
        check_whole("hydra.launcher.jobs_per_gpu", jobs_per_gpu, 1)
        self.init = dict(init)
        self.remote = {name: value for name, value in remote.items() if value is not None}
        self.jobs_per_gpu = jobs_per_gpu
        # a new worker for each task, so that a crash ends no other task
        self.task = ray.remote(max_calls=1, max_retries=0)(_work)
        self.tasks: dict[Any, JobSpec] = {}

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        option = "init"
        try:
            given: dict[str, Any] = QUIET | self.init
            own: dict[str, Any] = {"num_cpus": cores()} | given  # Ray itself would offer all cores of the machine
            with _shielding_from_hangups():
                if not ray.is_initialized():
                    with suppress(ValueError):  # there is a cluster, which takes no num_cpus
                        ray.init(**own)
                if not ray.is_initialized():
                    ray.init(**given)
            option = "remote"
            self.task.options(**self.options(jobs[0]))
        except (TypeError, ValueError, RuntimeError, ConnectionError) as error:
            token = "; type export RAY_AUTH_MODE=token" if "InvalidAuthToken" in str(error.__cause__) else ""
            raise ConfigError(f"Ray refuses hydra.launcher.{option}: {error}{token}") from error

    def run(self, jobs: Sequence[JobSpec]) -> Running:
        for job in jobs:
            options = self.options(job)
            if (missing := missing_for(options)) is None:
                self.tasks[self.task.options(**options).remote(job, share_of(options))] = job
            else:  # Ray would let the job wait forever
                yield job, Outcome("failed", error=missing)
        while self.tasks:
            ended, _ = ray.wait(list(self.tasks), num_returns=1, timeout=TICK)
            for reference in ended:
                yield self.tasks.pop(reference), outcome_of(reference)
            yield None

    def options(self, job: JobSpec) -> dict[str, Any]:
        """Return the options of a job's task."""
        devices = processes_of(job.config["runtime"])
        options: dict[str, Any] = {"num_cpus": devices}
        if job.config["runtime"]["accelerator"] != "cpu" and ray.cluster_resources().get("GPU", 0) > 0:
            options["num_gpus"] = devices if devices > 1 else 1 / self.jobs_per_gpu
        return options | self.remote

    def stop(self) -> None:
        for reference in self.tasks:
            ray.cancel(reference)  # raises KeyboardInterrupt in a running task


def share_of(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables that tell a task how many cores it has, and the threads that the user chose."""
    chosen = {THREADS: os.environ[THREADS]} if THREADS in os.environ else {}
    return {CORES: str(max(1, int(options["num_cpus"])))} | chosen


def _work(job: JobSpec, share: Mapping[str, str]) -> Outcome:
    if os.environ.get(THREADS) == share[CORES]:  # Ray has set it, and does not know of a job's processes
        del os.environ[THREADS]
    os.environ.update(share)
    return perform_or_interrupted(job)


@contextmanager
def _shielding_from_hangups() -> Iterator[None]:
    """Block SIGHUP in the processes that are started in the block, because without Ray's own no job can be stopped."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def missing_for(options: Mapping[str, Any]) -> str | None:
    """Return an error if a task asks for more than any machine of the cluster has, else None."""
    names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    asked = {name: options.get(option) for name, option in names.items()} | dict(options.get("resources") or {})
    asked = {name: number for name, number in asked.items() if number}
    machines = [{name: node["Resources"].get(name, 0) for name in asked} for node in ray.nodes() if node["Alive"]]
    if any(all(machine[name] >= number for name, number in asked.items()) for machine in machines):
        return None
    there = "; ".join(sorted({_listed(machine) for machine in machines}))
    return f"a job asks Ray for {_listed(asked)}, and no machine has that: they have {there}"


def _listed(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{number:g} {name}" for name, number in resources.items())


def outcome_of(reference: Any) -> Outcome:
    """Return the outcome of a task that has ended."""
    try:
        return ray.get(reference)
    except TaskCancelledError:
        return Outcome("interrupted", error="cancelled")
    except RayError as error:  # the task's worker or node died
        return Outcome("failed", error=str(error).splitlines()[0])
