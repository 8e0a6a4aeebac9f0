"""One job of a sweep as plain data that any process can be sent."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True)
class JobSpec:
    """A job: the run, or runs of several seeds, that a configuration describes.

    Attributes:
        config: resolved, as plain data.
        path: the run folder.
        group: the sweep's name.
        cwd: where the sweep was typed.
        environment: variables that the job's process is to have.
    """

    config: dict[str, Any]
    path: Path
    group: str
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self.config)

    def given(self, environment: Mapping[str, str]) -> "JobSpec":
        """The same, with more variables."""
        return replace(self, environment={**environment, **self.environment})


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        state: how it ended.
        value: the (mean) validation bound in nats, of one that is done.
        error: the first line of what stopped it.
    """

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None


@dataclass
class Planned:
    """A job of this command line.

    Attributes:
        spec: what is to be done.
        overrides: what was typed for it.
        composed: its configuration, with Hydra's own node.
        label: the overrides that tell it from the others.
        outcome: what became of it; of one that was done before, at once.
    """

    spec: JobSpec
    overrides: list[str]
    composed: DictConfig
    label: str
    outcome: Outcome | None = None
