"""Read a sweep's folder: its jobs and their states. The state of a job is stored in its run folder alone."""

import json
import logging
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.folder.contents import (
    FORMAT_VERSION,
    check_format_version,
    read_config,
    read_json,
    read_metrics,
    read_status,
)
from vaelab.security.redaction import redact

JobState = Literal["waiting", "running", "done", "interrupted", "failed", "killed"]
PLAN = "sweep.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A job of a sweep, read from its run folder. Each file is read at its first use.

    Attributes:
        path: the run folder; it may not exist while the job waits.
        overrides: the job's overrides; empty for a folder that is not in the sweep's plan: that of a later seed of
            `seeds=`, or one put there by hand.
    """

    path: Path
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def status(self) -> dict[str, Any]:
        """`status.json`; empty while the job waits."""
        return read_status(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The stored configuration; empty if the job ended before it wrote one."""
        return read_config(self.path) if (self.path / "config.yaml").exists() else {}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final metrics; empty before the end."""
        return read_metrics(self.path)

    @cached_property
    def record(self) -> dict[str, Any]:
        """`record.json`, the data protocol and the environment; empty before training."""
        return read_json(self.path / "record.json")

    @cached_property
    def state(self) -> JobState:
        """The job's state. `killed`: `status.json` says `running`, but no process of this machine holds the lock."""
        found = self.status.get("state", "waiting")
        here = self.status.get("host") == socket.gethostname() and (self.path / ".lock").exists()
        if found == "running" and here:
            with suppress(Timeout, OSError), FileLock(self.path / ".lock").acquire(timeout=0):
                return "killed"
        return found

    @property
    def error(self) -> str | None:
        """The first line of the error that stopped the job."""
        return "its process was killed" if self.state == "killed" else self.status.get("error")

    @property
    def seconds(self) -> float:
        """The total seconds of all attempts that were not killed."""
        return self.status.get("seconds", 0.0)


class SweepFolder:
    """A folder of run folders. Its `sweep.json` lists the planned jobs and their overrides.

    Raises:
        RunFolderError: raised by `plan`, `add` and `jobs` if `sweep.json` cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan(self) -> dict[str, list[str]]:
        """Folder name → overrides, for every job ever planned here."""
        stored = read_json(self.path / PLAN)
        jobs = stored.get("jobs", {})
        if stored:
            check_format_version(stored.get("format_version"), self.path / PLAN)
        if not (isinstance(jobs, dict) and all(map(_is_job, jobs.items()))):
            raise RunFolderError(f"{self.path / PLAN} is not the plan of a sweep; delete it, and run the sweep again")
        return jobs

    @property
    def known_plan(self) -> dict[str, list[str]]:
        """The plan, or with a warning an empty one if `sweep.json` cannot be read."""
        try:
            return self.plan
        except RunFolderError as error:
            log.warning("the overrides of the jobs are unknown: %s", error)
            return {}

    def add(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Add jobs to the plan: folder name → overrides."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):  # because another command may add jobs to the same sweep at this moment
            plan = self.plan | {name: [redact(override) for override in overrides] for name, overrides in jobs.items()}
            stored = {"format_version": FORMAT_VERSION, "jobs": plan}
            write_atomically(self.path / PLAN, json.dumps(stored, indent=2))

    def jobs(self) -> list[Job]:
        """Return all jobs: first the planned ones in order, then the other run folders."""
        plan = self.plan
        configs = sorted(self.path.glob("*/config.yaml"))
        names = [config.parent.name for config in configs if ".old" not in config.parent.suffix]
        return [Job(self.path / name, tuple(plan.get(name, ()))) for name in dict.fromkeys([*plan, *names])]


def _is_job(item: tuple[str, Any]) -> bool:
    name, overrides = item
    inside = Path(name).name == name not in ("", "..")
    return inside and isinstance(overrides, list) and all(isinstance(override, str) for override in overrides)
