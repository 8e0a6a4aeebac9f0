"""A sweep's folder: which jobs it has, and how far each is; read from the folders of the jobs alone."""

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.folder.contents import (
    FORMAT_VERSION,
    START_OVER,
    check_format_version,
    read_config,
    read_json,
    read_metrics,
    read_status,
)
from vaelab.security.redaction import redact

JobState = Literal["waiting", "running", "done", "interrupted", "failed", "killed"]
PLAN = "sweep.json"


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as its run folder tells of it; files are read when they are asked for.

    Attributes:
        path: its run folder, which a job that waits may not have yet.
        overrides: what the sweep typed for it; none for a folder that is not in the sweep's plan (of another seed of
            `seeds=`, or put there by hand).
    """

    path: Path
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def status(self) -> dict[str, Any]:
        """What `status.json` holds; nothing while the job waits."""
        return read_status(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The stored configuration; nothing if the job never got as far as to write one."""
        return read_config(self.path) if (self.path / "config.yaml").exists() else {}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final metrics; nothing before."""
        return read_metrics(self.path)

    @cached_property
    def record(self) -> dict[str, Any]:
        """What `record.json` holds: the data protocol and the environment; nothing before training."""
        return read_json(self.path / "record.json")

    @cached_property
    def state(self) -> JobState:
        """Where it is; `killed`: it says that it runs, and no process of this machine holds its folder."""
        found = self.status.get("state", "waiting")
        return "killed" if found == "running" and self._abandoned() else found

    @property
    def error(self) -> str | None:
        """The first line of what stopped it."""
        if self.state == "killed":
            return "its process was killed"
        return self.status.get("error")

    @property
    def seconds(self) -> float:
        """How long it took, over all attempts but those that were killed."""
        return self.status.get("seconds", 0.0)

    def _abandoned(self) -> bool:
        lock = self.path / ".lock"
        if self.status.get("host") != socket.gethostname() or not lock.exists():
            return False
        try:
            with FileLock(lock).acquire(timeout=0):
                return True
        except (Timeout, OSError):
            return False


class SweepFolder:
    """A folder of run folders, with `sweep.json`: which jobs were planned, and by which overrides.

    Args:
        path: the folder.

    Raises:
        RunFolderError: by `jobs`, a plan that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def plan(self) -> dict[str, list[str]]:
        """Folder name → overrides, of all jobs that were ever planned here."""
        stored = read_json(self.path / PLAN)
        jobs = stored.get("jobs", {})
        if stored:
            check_format_version(stored.get("format_version"), self.path / PLAN)
        if not _is_plan(jobs):
            raise RunFolderError(f"{self.path / PLAN} is not the plan of a sweep; {START_OVER}")
        return jobs

    def add(self, jobs: Mapping[str, Sequence[str]]) -> None:
        """Adds jobs to the plan: folder name → overrides."""
        self.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path / ".lock"):  # another line may add to the same sweep
            known = self.plan
            plan = known | {name: [redact(override) for override in overrides] for name, overrides in jobs.items()}
            if plan != known:
                stored = {"format_version": FORMAT_VERSION, "jobs": plan}
                write_atomically(self.path / PLAN, json.dumps(stored, indent=2))

    def jobs(self) -> list[Job]:
        """All jobs, planned ones first, in the order in which they were planned."""
        plan = self.plan
        others = sorted(
            path.name
            for path in (self.path.iterdir() if self.path.exists() else ())
            if path.name not in plan and (path / "config.yaml").is_file() and ".old" not in path.suffix
        )
        return [Job(self.path / name, tuple(plan.get(name, ()))) for name in [*plan, *others]]


def remove_if_refused(path: Path) -> None:
    """Removes the folder of a sweep that never was: it holds what Hydra writes before it calls us, and no more.

    That of a search has its study as well, and stays.
    """
    if path.is_dir() and [file.name for file in path.iterdir()] == ["multirun.yaml"]:
        with suppress(OSError):
            (path / "multirun.yaml").unlink()
            path.rmdir()


def tell_how_it_ended(path: Path, state: JobState, error: str | None) -> None:
    """Writes down how a run ended that could not do so itself: before it began, or since its process was killed.

    Where another process holds the folder, the run has not ended.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path / ".lock").acquire(timeout=0):
            _tell(path, state, error)
    except (Timeout, OSError):
        return


def _tell(path: Path, state: JobState, error: str | None) -> None:
    status: dict[str, Any] = {}
    with suppress(RunFolderError):
        status = read_status(path)
    if status.get("state") in (None, "running") or not (path / "config.yaml").exists():
        ended = {"state": state, "updated": datetime.now(UTC).isoformat(timespec="seconds"), "error": error}
        write_atomically(path / "status.json", json.dumps(status | ended, indent=2))


def _is_plan(jobs: Any) -> bool:
    return isinstance(jobs, dict) and all(
        isinstance(name, str)
        and Path(name).name == name not in ("", "..")
        and isinstance(overrides, list)
        and all(isinstance(override, str) for override in overrides)
        for name, overrides in jobs.items()
    )
