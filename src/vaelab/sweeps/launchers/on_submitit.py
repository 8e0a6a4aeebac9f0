"""Run jobs through submitit: on a SLURM cluster or, to try it out, in plain processes on this machine."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from vaelab.errors import ConfigError, SweepError
from vaelab.files import write_atomically
from vaelab.runs.cli import one_line
from vaelab.runs.folder.contents import read_json
from vaelab.runs.validate import check_whole, processes_of
from vaelab.signals import Interrupted
from vaelab.sweeps.folder import Job
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import JobsLauncher, Running
from vaelab.sweeps.launchers.local import slots_for, visible_gpus
from vaelab.sweeps.worker import perform

log = logging.getLogger(__name__)
JOBS = "jobs.json"
POLL = 0.5  # seconds
LOOK = 5.0  # seconds between two looks at SLURM's queue


class Payload:
    """What submitit runs: a job, which SLURM may preempt and start again."""

    def __call__(self, spec: JobSpec, share: Mapping[str, str]) -> Outcome:
        """Run the job. After SLURM's warning, the job writes a checkpoint, goes back into the queue, and exits."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # because submitit makes the process ignore it
        os.environ.update(share)
        try:
            return perform(spec)
        except Interrupted as interrupted:
            sys.exit(interrupted.exit_code)

    def checkpoint(self, spec: JobSpec, share: Mapping[str, str]) -> DelayedSubmission:
        """Return what goes back into the queue: the same job, which resumes from its checkpoint."""
        return DelayedSubmission(self, spec, share)


class Submitit(JobsLauncher):
    """Runs each job as a submitit job. Submitit's own files are in `.submitit` in the sweep's folder.

    Args:
        cluster: `slurm` or `local`.
        at_once: how many jobs run at a time; None for as many as the cluster, or this machine's devices, allow.
        max_num_timeout: how often a job may reach its time limit and be requeued.
        parameters: parameters of submitit, such as `timeout_min`, `cpus_per_task`, `partition`, `signal_delay_s`. The
            default `cpus_per_task` on SLURM is `devices`.
    """

    def __init__(self, cluster: str, at_once: int | None = None, max_num_timeout: int = 3, **parameters: Any) -> None:
        if at_once is not None:
            check_whole("hydra.launcher.at_once", at_once, 1)
        self.on_slurm = cluster == "slurm"
        self.cluster = cluster
        self.limit = at_once
        self.max_num_timeout = max_num_timeout
        array = {"array_parallelism": at_once} if self.on_slurm else {}
        self.parameters = {name: value for name, value in (parameters | array).items() if value is not None}
        self.submitted: dict[JobSpec, submitit.Job[Outcome]] = {}
        self.stopping = False
        self.looked = float("-inf")  # at SLURM's queue
        self.gone: set[JobSpec] = set()
        self.queue: Mapping[str, str] = {}

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        with TemporaryDirectory() as elsewhere:
            self.executor(Path(elsewhere), jobs)  # temporary, because the executor creates it
        self.submitted = in_queue(jobs) if self.on_slurm else {}
        if self.on_slurm:  # now, because only SLURM knows whether it takes them; it runs as many as it allows
            self.submit({job: {} for job in jobs if job not in self.submitted})

    def submit(self, batch: Mapping[JobSpec, Mapping[str, str]]) -> None:
        """Submit jobs, each with its share of this machine; refuse all if SLURM refuses them."""
        if not batch:
            return
        folder = folder_for(list(batch))
        is_new, parent_is_new = not folder.exists(), not folder.parent.exists()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # its files have unredacted configurations
        try:
            with redirect_stderr(StringIO()):  # submitit would print the error too
                sent = self.executor(folder, list(batch)).map_array(Payload(), list(batch), list(batch.values()))
        except FailedJobError as error:
            if is_new:
                shutil.rmtree(folder)
                if parent_is_new:
                    folder.parent.rmdir()
            reason = "; ".join(str(error).splitlines())
            raise ConfigError(f"SLURM refuses the jobs ({reason}): change hydra.launcher") from error
        self.submitted |= dict(zip(batch, sent, strict=True))
        known = {job.name: sent.job_id for job, sent in self.submitted.items()}
        write_atomically(folder / JOBS, json.dumps(read_json(folder / JOBS) | known, indent=2))

    def run(self, jobs: Sequence[JobSpec]) -> Running:
        waiting = deque(job for job in jobs if job not in self.submitted)  # on SLURM none
        free = deque(slots_for(jobs, self.limit, 1) if waiting else ())  # submitit would start all at once
        # submitit hides the GPUs that it was not asked for
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(visible_gpus())} if waiting and visible_gpus() else {}
        taken: dict[JobSpec, dict[str, str]] = {}
        while self.submitted or (waiting and not self.stopping):
            batch = {}
            while waiting and free and not self.stopping:
                batch[waiting.popleft()] = free.popleft()
            self.submit({job: gpus | share for job, share in batch.items()})
            taken |= batch
            for job, sent in [(job, self.submitted.pop(job)) for job in self.ended()]:
                free.append(taken.pop(job, {}))
                yield job, outcome_of(sent, job.path)
            yield None
            time.sleep(POLL)

    def waiting_for(self) -> str | None:
        ids = [sent.job_id for sent in self.submitted.values()]
        # "None" of a running job, JobArrayTaskLimit of one that waits because of `at_once`
        waiting = {id_: why for id_ in ids if (why := self.queue.get(id_, "None")) not in ("None", "JobArrayTaskLimit")}
        if not waiting:
            return None
        arrays = " ".join(dict.fromkeys(id_.split("_")[0] for id_ in waiting))
        told = f"scontrol show job {arrays.split()[0]} tells more, scancel --state=PENDING {arrays} ends them"
        return f"jobs wait in SLURM's queue: {', '.join(sorted(set(waiting.values())))} ({told})"

    def ended(self) -> list[JobSpec]:
        """Return the jobs that have ended, with a result or without."""
        if not self.on_slurm:
            return [job for job, sent in self.submitted.items() if sent.done()]
        ended = [job for job, sent in self.submitted.items() if sent.paths.result_pickle.exists()]
        if time.monotonic() >= self.looked + LOOK:
            self.looked, queued, former = time.monotonic(), queued_jobs(), self.gone
            self.gone = {j for j, sent in self.submitted.items() if queued is not None and sent.job_id not in queued}
            self.queue = queued or {}
            # the second look without a job counts, because a shared file system may show its result late
            ended += (self.gone & former).difference(ended)
        return ended

    def executor(self, folder: Path, jobs: Sequence[JobSpec]) -> submitit.AutoExecutor:
        """Return submitit's executor; refuse a parameter that submitit refuses, and a cluster that does not exist."""
        shared = submitit.AutoExecutor._valid_parameters()
        cpus = {"cpus_per_task": max(processes_of(job.config["runtime"]) for job in jobs)} if self.on_slurm else {}
        parameters = {n if n in shared else f"{self.cluster}_{n}": v for n, v in (cpus | self.parameters).items()}
        often = {f"{self.cluster}_max_num_timeout": self.max_num_timeout}
        try:
            executor = submitit.AutoExecutor(folder, cluster=self.cluster, **often)
            executor.update_parameters(**parameters)
        except (NameError, TypeError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"submitit refuses hydra.launcher: {str(error).splitlines()[0]}") from error
        return executor

    def stop(self) -> None:
        """Stop local jobs; leave SLURM jobs running."""
        self.stopping = True
        if self.on_slurm:
            log.warning(
                "the SLURM jobs go on (squeue shows them, scancel ends them); type the same command to wait for them"
            )
            self.submitted.clear()
        for job, sent in self.submitted.items():
            status = Job(job.path).status if job.place == job.path.parent else {}  # an evaluation keeps none
            if status.get("state") == "running" and isinstance(status.get("pid"), int):
                with suppress(OSError):
                    os.kill(status["pid"], signal.SIGTERM)  # `cancel` would kill the process after a second
            else:
                sent.cancel(check=False)


def folder_for(jobs: Sequence[JobSpec]) -> Path:
    """Return the folder of submitit's own files."""
    return jobs[0].place / ".submitit"


def in_queue(jobs: Sequence[JobSpec]) -> "dict[JobSpec, submitit.Job[Outcome]]":
    """Return the jobs that an earlier command has submitted and that are still in SLURM's queue."""
    ids = read_json(folder_for(jobs) / JOBS)
    found = {job: ids[job.name] for job in jobs if job.name in ids}
    queued = queued_jobs() if found else {}
    if queued is None:
        raise SweepError(
            "jobs of an earlier command may be in SLURM's queue, and squeue does not answer: type the command "
            "again when it does"
        )
    return {job: submitit.SlurmJob(folder_for(jobs), id_) for job, id_ in found.items() if id_ in queued}


def outcome_of(job: "submitit.Job[Outcome]", path: Path) -> Outcome:
    """Return the outcome of a job that has ended."""
    if job.paths.result_pickle.exists():
        try:
            return job.result()
        except Exception as error:  # not from the run: the job could not be unpickled there, or the disk is full
            return Outcome("failed", error=one_line(error))
    if Job(path).state == "interrupted":  # and not requeued: for example by scancel
        return Outcome("interrupted", error=Job(path).error)
    # the job was killed, exceeded its time limit, ran out of memory, or lost its node
    last = squeue("%T", "--states=all", f"--jobs={job.job_id}") if isinstance(job, submitit.SlurmJob) else None
    state = f" ({last[0]})" if last else ""
    return Outcome("failed", error=f"job {job.job_id} ended without a result{state}; see {job.paths.stderr}")


def queued_jobs() -> dict[str, str] | None:
    """Return the running and waiting jobs: id → the reason why it waits, or "None". Return None if squeue fails."""
    lines = squeue("%i|%r")
    return None if lines is None else {id_: reason for id_, _, reason in (line.partition("|") for line in lines)}


def squeue(form: str, *options: str) -> list[str] | None:
    """Return the lines of squeue, one for each job, or None if it fails. It needs no SLURM accounting."""
    command = ["squeue", "--noheader", "--array", f"--format={form}", *options]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
