"""Schedules of the learning rate: a scheduler of PyTorch's, and when it takes its step."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

Interval = Literal["step", "epoch", "validation"]


@dataclass
class Schedule:
    """A scheduler of `torch.optim.lr_scheduler`, and when it takes its step.

    Args:
        scheduler: makes the scheduler from the optimiser.
        interval: when it takes a step: after every optimiser `step`, `epoch` or `validation`. After a validation, a
            `ReduceLROnPlateau` gets the ELBO in nats; give it `mode="max"`, because higher is better.

    Raises:
        ValueError: an unknown `interval`.
    """

    scheduler: Callable[[Optimizer], Any]
    interval: Interval = "epoch"

    def __post_init__(self) -> None:
        if self.interval not in get_args(Interval):
            known = ", ".join(get_args(Interval))
            raise ValueError(f"lr_schedule.interval must be one of {known}, not {self.interval!r}")

    def try_out(self, optimizer: Optimizer) -> None:
        """Take a step with a throwaway optimiser, so that a wrong configuration fails before training begins."""
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != "max":
            raise ValueError("lr_schedule.scheduler.mode must be max, because a higher ELBO is better, found min")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that the optimiser has not taken a step yet
            advance(scheduler, *((0.0,) if self.interval == "validation" else ()))


def advance(scheduler: Any, *bound: float) -> None:
    """Take a scheduler's step; only a `ReduceLROnPlateau` gets the bound."""
    scheduler.step(*(bound if isinstance(scheduler, ReduceLROnPlateau) else ()))
