"""A job of a sweep, and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Outcome:
    """How a job ended, with its validation bound in nats (the mean over seeds) or the first line of its error."""

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None


@dataclass(eq=False)
class JobSpec:
    """A job of the current command: the run, or the runs of several seeds, of one configuration.

    Attributes:
        config: the resolved configuration, as plain data.
        path: the run folder, in the sweep's folder.
        cwd: the folder in which the command was typed.
        environment: environment variables of the job's process.
        overrides: the job's overrides.
        label: the overrides that differ between the jobs.
        outcome: how the job ended; set from the start if the job need not run.
    """

    config: dict[str, Any]
    path: Path
    cwd: Path
    environment: Mapping[str, str]
    overrides: Sequence[str]
    label: str
    outcome: Outcome | None = None

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self.config)

    @property
    def state(self) -> str | None:
        return self.outcome and self.outcome.state
