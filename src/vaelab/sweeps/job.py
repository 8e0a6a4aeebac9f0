"""A job of a sweep, and its outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class Outcome:
    """How a job ended; its (mean) validation bound in nats, or the first line of what stopped it."""

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None


@dataclass(eq=False)
class JobSpec:
    """A job of this command line: the run, or the runs of several seeds, that a configuration describes.

    Attributes:
        config: the resolved configuration, as plain data.
        path: the run folder, in the sweep's folder.
        cwd: where the sweep was typed.
        environment: variables of the job's process.
        overrides: what was typed for it.
        label: those of the overrides that differ between the jobs.
        outcome: what became of it; given from the start for a job that needs nothing more.
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
