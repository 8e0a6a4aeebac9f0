"""Run jobs through submitit: on a SLURM cluster, or in plain processes of this machine to try that out."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import submitit
import torch
from submitit.helpers import DelayedSubmission

from vaelab.errors import ConfigError, SweepError
from vaelab.files import write_atomically
from vaelab.runs.cli import one_line
from vaelab.runs.folder.contents import read_json
from vaelab.signals import Interrupted
from vaelab.sweeps.folder import Job, record_end
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import Ended, check_whole
from vaelab.sweeps.launchers.local import slots_for, visible_gpus
from vaelab.sweeps.worker import perform

log = logging.getLogger(__name__)
JOBS = "jobs.json"
POLL = 0.5  # seconds
LOOK = 5.0  # seconds from one look at SLURM's queue to the next
BASIC = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
IN_CONSTRUCTOR = ("max_num_timeout", "max_pickle_size_gb", "python")


class Payload:
    """What submitit runs: a job, which SLURM may preempt and start again."""

    def __call__(self, spec: JobSpec) -> Outcome:
        """Run the job. After SLURM's warning it writes a checkpoint, goes back into the queue, and exits."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit would ignore it
        try:
            return perform(spec)
        except Interrupted as interrupted:
            sys.exit(interrupted.exit_code)

    def checkpoint(self, spec: JobSpec) -> DelayedSubmission:
        """Return what goes back into the queue: the same job, which resumes from its checkpoint."""
        return DelayedSubmission(self, spec)


class Submitit:
    """Each job is one of submitit's. Submitit's own files are in `.submitit` in the sweep's folder.

    Args:
        cluster: `slurm`, or `local`.
        at_once: jobs that run at a time; None: what a cluster allows, or on this machine what there are devices for.
        parameters: submitit's, such as `timeout_min`, `cpus_per_task`, `partition`, `signal_delay_s`.
    """

    def __init__(self, cluster: str, at_once: int | None = None, **parameters: Any) -> None:
        check_whole(at_once=at_once)
        self.cluster = cluster
        self.limit = at_once
        self.parameters = {name: value for name, value in parameters.items() if value is not None}
        self.paths: list[Path] = []
        self.submitted: dict[int, submitit.Job[Outcome]] = {}
        self.stopping = False
        self.looked = time.monotonic()
        self.gone: set[int] = set()

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        with TemporaryDirectory() as elsewhere:
            self.executor(Path(elsewhere))  # it makes its folder
        self.paths = [job.path for job in jobs]
        self.submitted = {} if self.cluster == "local" else self.in_queue(jobs[0].path.parent / ".submitit")

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        folder = jobs[0].path.parent / ".submitit"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files have configurations as they were typed
        executor = self.executor(folder)
        # SLURM runs as many jobs of an array as it allows; on this machine submitit would start all at once
        local = self.cluster == "local"
        free = deque(map(_with_gpus, slots_for(jobs, self.limit, 1))) if local else deque({} for _ in jobs)
        taken: dict[int, dict[str, str]] = {}
        waiting = deque((number, job) for number, job in enumerate(jobs) if number not in self.submitted)
        while (waiting and not self.stopping) or self.submitted:
            batch = {}
            while waiting and free and not self.stopping:
                number, job = waiting.popleft()
                taken[number] = free.popleft()
                batch[number] = job.given(taken[number])
            if batch:
                sent = executor.map_array(Payload(), list(batch.values()))
                self.submitted |= dict(zip(batch, sent, strict=True))
                sent_before = {self.paths[number].name: job.job_id for number, job in self.submitted.items()}
                write_atomically(folder / JOBS, json.dumps(read_json(folder / JOBS) | sent_before, indent=2))
            for number in self.ended():
                free.append(taken.pop(number, {}))
                yield number, outcome_of(self.submitted.pop(number), jobs[number].path)
            yield None
            time.sleep(POLL)

    def in_queue(self, folder: Path) -> "dict[int, submitit.Job[Outcome]]":
        """Return the jobs that an earlier line has submitted and that are still in SLURM's queue.

        Raises:
            SweepError: there may be such jobs, and `squeue` does not answer.
        """
        known = read_json(folder / JOBS)
        found = {number: known[path.name] for number, path in enumerate(self.paths) if path.name in known}
        queued = queued_jobs() if found else set()
        if queued is None:
            raise SweepError(
                "jobs of an earlier line may be in SLURM's queue, and squeue does not answer: type the command again "
                "when it does"
            )
        return {number: submitit.SlurmJob(folder, job_id) for number, job_id in found.items() if job_id in queued}

    def ended(self) -> list[int]:
        """Return the numbers of the jobs that have ended, with a result or without."""
        if self.cluster != "slurm":
            return [number for number, job in self.submitted.items() if job.done()]
        with_result = [number for number, job in self.submitted.items() if job.paths.result_pickle.exists()]
        if time.monotonic() < self.looked + LOOK:
            return with_result
        self.looked, queued = time.monotonic(), queued_jobs()
        gone = {number for number, job in self.submitted.items() if queued is not None and job.job_id not in queued}
        twice, self.gone = gone & self.gone, gone  # a shared file system may show a result late
        return [*with_result, *(twice - set(with_result))]

    def executor(self, folder: Path) -> submitit.AutoExecutor:
        """Return submitit's executor.

        Raises:
            ConfigError: submitit refuses a parameter, or there is no SLURM.
        """
        own = {f"{self.cluster}_{name}": self.parameters[name] for name in IN_CONSTRUCTOR if name in self.parameters}
        rest = {name: value for name, value in self.parameters.items() if name not in IN_CONSTRUCTOR}
        if self.cluster == "slurm" and self.limit is not None:
            rest["array_parallelism"] = self.limit
        rest = {name if name in BASIC else f"{self.cluster}_{name}": value for name, value in rest.items()}
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, **own)
            executor.update_parameters(**rest)
        except (NameError, TypeError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"submitit refuses what hydra.launcher has: {str(error).splitlines()[0]}") from error
        return executor

    def stop(self) -> None:
        """End local jobs; leave those of a cluster to it."""
        self.stopping = True
        if self.cluster == "slurm":
            log.warning("SLURM's jobs go on (squeue shows them, scancel ends them); the same line again waits for them")
            self.submitted.clear()
        for number, job in self.submitted.items():
            status = Job(self.paths[number]).status
            if status.get("state") == "running" and isinstance(status.get("pid"), int):
                with suppress(OSError):
                    os.kill(status["pid"], signal.SIGTERM)  # submitit itself would kill it after a second
            else:
                job.cancel(check=False)


def outcome_of(job: "submitit.Job[Outcome]", path: Path) -> Outcome:
    """Return the outcome of a job that has ended."""
    if job.paths.result_pickle.exists():
        try:
            return job.result()
        except Exception as error:  # outside of the run: the job could not be unpickled there, or the disk is full
            return Outcome("failed", error=one_line(error))
    if Job(path).state == "interrupted":  # and not put back into the queue, as by scancel
        return Outcome("interrupted", error=Job(path).error)
    # killed, past its time limit, or its node is lost
    error = f"job {job.job_id} ended without a result; see {job.paths.stderr}"
    return record_end(path, Outcome("failed", error=error))


def queued_jobs() -> set[str] | None:
    """Return the jobs that SLURM has running or waiting, without its accounting; None if it does not say."""
    command = ["squeue", "--noheader", "--array", "--format=%i"]
    try:
        return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    except (OSError, subprocess.CalledProcessError):
        return None


def _with_gpus(slot: dict[str, str]) -> dict[str, str]:
    # submitit hides those that it was not asked for
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible_gpus())} | slot if torch.cuda.device_count() else slot
