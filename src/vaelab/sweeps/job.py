"""A job of a sweep, which trains, and its outcome."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.complete import complete_runs, value_of
from vaelab.runs.folder.contents import read_status
from vaelab.signals import Stop


@dataclass(frozen=True)
class Outcome:
    """How a job ended, with its bound in nats (the mean over seeds) or the first line of its error.

    `metrics` is what `complete_evaluation` returned, if the job evaluates.
    """

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class JobSpec:
    """A job of the current command, which trains the run in `path`, or the runs of several seeds.

    A launcher sends it to a process of its own, which calls `work`. A subclass for another kind of work replaces all
    properties and methods below `state`.
    """

    config: dict[str, Any]  # resolved
    path: Path  # the run folder
    cwd: Path  # the folder in which the command was typed
    environment: Mapping[str, str]  # of the job's process
    label: str  # what tells the job from the others
    outcome: Outcome | None = None  # how the job ended; set from the start if the job need not run
    overrides: Sequence[str] = ()

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self.config)

    @property
    def state(self) -> str | None:
        return self.outcome and self.outcome.state

    @property
    def name(self) -> str:
        """The name by which a later command finds the same job in a cluster's queue."""
        return self.path.name

    @property
    def place(self) -> Path:
        """The folder in which a launcher keeps its own files."""
        return self.path.parent

    @property
    def metric(self) -> str:
        """The name of the outcome's value."""
        return "val/elbo"

    def work(self, stop: Stop) -> Outcome:
        """Do the job in this process; a signal sets `stop`."""
        columns, _ = complete_runs(self.cfg, self.path, self.path.parent.name, stop)
        return Outcome("done", value_of(columns))

    def record(self, outcome: Outcome) -> Outcome:
        """Write an outcome that the job could not record itself into its run folder; return the outcome.

        Write nothing if the job has recorded its end, or if another process holds the lock and so still runs the job.
        """
        if outcome.state == "done":
            return outcome
        with suppress(Timeout, OSError):
            self.path.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path / ".lock").acquire(timeout=0):
                status: dict[str, Any] = {}
                with suppress(RunFolderError):
                    status = read_status(self.path)
                if status.get("state") in (None, "running") or not (self.path / "config.yaml").exists():
                    status |= {"state": outcome.state, "updated": datetime.now(UTC).isoformat(timespec="seconds")}
                    write_atomically(self.path / "status.json", json.dumps(status | {"error": outcome.error}, indent=2))
        return outcome
