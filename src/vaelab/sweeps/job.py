"""A job of a command that runs several, and its outcome."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from vaelab.signals import Stop


@dataclass(frozen=True)
class Outcome:
    """How a job ended, with its bound in nats (the mean over seeds) or the first line of its error.

    `metrics` are those of an evaluation.
    """

    state: Literal["done", "failed", "interrupted"]
    value: float | None = None
    error: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class JobSpec(ABC):
    """A job of the current command. A launcher sends it to a process of its own, which calls `work`.

    Attributes:
        config: the resolved configuration, as plain data.
        path: the run folder.
        cwd: the folder in which the command was typed.
        environment: environment variables of the job's process.
        label: what tells the job from the others.
        outcome: how the job ended; set from the start if the job need not run.
    """

    config: dict[str, Any]
    path: Path
    cwd: Path
    environment: Mapping[str, str]
    label: str
    outcome: Outcome | None = None

    @property
    def cfg(self) -> DictConfig:
        return OmegaConf.create(self.config)

    @property
    def state(self) -> str | None:
        return self.outcome and self.outcome.state

    @property
    @abstractmethod
    def name(self) -> str:
        """The name by which a later command finds the same job in a cluster's queue."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder in which a launcher keeps its own files."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The name of the outcome's value."""

    @abstractmethod
    def work(self, stop: Stop) -> Outcome:
        """Do the job in this process; a signal sets `stop`."""

    @abstractmethod
    def record(self, outcome: Outcome) -> Outcome:
        """Record an outcome that the job could not record itself; return it."""
