"""Jobs as tasks of Ray, on this machine or on a cluster, each with the cores and GPUs that it asks for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError

from vaelab.errors import ConfigError
from vaelab.runs.validate import processes_of
from vaelab.sweeps.folder import tell_how_it_ended
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import Ended, check_whole
from vaelab.sweeps.perform import guarded, perform

TICK = 0.5  # seconds


class Ray:
    """Each job is a task in a worker of its own, which Ray shows the GPUs that are its.

    Args:
        init: arguments of `ray.init`, such as `address`.
        remote: options of the task, such as `num_cpus`; `num_gpus` is 1 / `jobs_per_gpu` for each of
            `devices` where the cluster has GPUs, if it is not given.
        jobs_per_gpu: so many share a GPU.
    """

    def __init__(self, init: Mapping[str, Any], remote: Mapping[str, Any], jobs_per_gpu: int = 1) -> None:
        check_whole(jobs_per_gpu=jobs_per_gpu)
        self.init = dict(init)
        self.remote = dict(remote)
        self.jobs_per_gpu = jobs_per_gpu
        # a worker of its own: a task that crashes takes no other with it, and none finds what another left
        self.task = ray.remote(max_calls=1, max_retries=0)(_task)
        self.tasks: dict[Any, int] = {}

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        with _refusing("init"):
            if not ray.is_initialized():
                ray.init(**{"log_to_driver": False, "logging_level": "error", "include_dashboard": False, **self.init})
        options = self.options(jobs[0])
        with _refusing("remote"):
            self.task.options(**options)

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        for number, job in enumerate(jobs):
            options = self.options(job)
            if (missing := missing_for(options)) is None:
                self.tasks[self.task.options(**options).remote(job)] = number
            else:  # it would wait for ever, without a word
                tell_how_it_ended(job.path, "failed", missing)
                yield number, Outcome("failed", error=missing)
        while self.tasks:
            ended, _ = ray.wait(list(self.tasks), num_returns=1, timeout=TICK)
            for reference in ended:
                number = self.tasks.pop(reference)
                yield number, outcome_of(reference, jobs[number])
            yield None

    def options(self, job: JobSpec) -> dict[str, Any]:
        """What the task of a job asks of Ray."""
        devices = processes_of(job.config["runtime"])
        gpus = {"num_gpus": devices if devices > 1 else 1 / self.jobs_per_gpu}
        wants_gpus = job.config["runtime"]["accelerator"] != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        given = {name: value for name, value in self.remote.items() if value is not None}
        return {"num_cpus": devices} | (gpus if wants_gpus else {}) | given

    def stop(self) -> None:
        for reference in self.tasks:
            ray.cancel(reference)  # a KeyboardInterrupt in those that run


@contextmanager
def _refusing(option: str) -> Iterator[None]:
    """What Ray says of an option that it does not take, or of a cluster that it does not reach, is the user's."""
    try:
        yield
    except (TypeError, ValueError, RuntimeError, ConnectionError) as error:
        token = "; type export RAY_AUTH_MODE=token" if "InvalidAuthToken" in str(error.__cause__) else ""
        raise ConfigError(f"Ray refuses what hydra.launcher.{option} has: {error}{token}") from error


def missing_for(options: Mapping[str, Any]) -> str | None:
    """What no machine of the cluster has that a task asks for, in words."""
    for name, option in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        most = max((node["Resources"].get(name, 0) for node in ray.nodes() if node["Alive"]), default=0)
        if options.get(option, 0) > most:
            return f"a job asks Ray for {options[option]:g} {name}s, and no machine has more than {most:g}"
    return None


def _task(spec: JobSpec) -> Outcome:
    return guarded(perform, spec)


def outcome_of(reference: Any, job: JobSpec) -> Outcome:
    """What became of a task that has ended."""
    try:
        return ray.get(reference)
    except TaskCancelledError:
        return Outcome("interrupted", error="cancelled")
    except RayError as error:  # its worker or its node died
        outcome = Outcome("failed", error=str(error).splitlines()[0])
        tell_how_it_ended(job.path, "failed", outcome.error)
        return outcome
