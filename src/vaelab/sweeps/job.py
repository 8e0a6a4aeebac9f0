"""A job of a sweep, as plain data that any process can be sent, and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class JobSpec:
    """A job: the run, or the runs of several seeds, that a configuration describes.

    Attributes:
        config: the resolved configuration, as plain data.
        path: the run folder, in the sweep's folder.
        cwd: where the sweep was typed.
        environment: variables of the job's process.
    """

    config: dict[str, Any]
    path: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self.config)

    def given(self, environment: Mapping[str, str]) -> "JobSpec":
        """Return the same job with more variables."""
        return replace(self, environment={**environment, **self.environment})


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        state: how it ended.
        value: the (mean) validation bound in nats, if it is done.
        error: the first line of what stopped it.
    """

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None


@dataclass
class Planned:
    """A job of this command line.

    Attributes:
        spec: the job.
        overrides: what was typed for it.
        label: those of the overrides that differ between the jobs.
        outcome: what became of it; given from the start for a job that needs nothing more.
    """

    spec: JobSpec
    overrides: list[str]
    label: str
    outcome: Outcome | None = None
