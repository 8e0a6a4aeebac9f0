"""Schedules of the learning rate: a PyTorch scheduler, and the event after which it takes a step."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

Interval = Literal["step", "epoch", "validation"]


@dataclass
class Schedule:
    """A scheduler of `torch.optim.lr_scheduler`, and the event after which it takes a step.

    Args:
        scheduler: makes the scheduler from the optimiser.
        interval: the event after which it takes a step: an optimiser `step`, an `epoch` or a `validation`. After a
            validation, a `ReduceLROnPlateau` gets the ELBO in nats; give it `mode="max"`, because higher is better.

    Raises:
        ValueError: `interval` is unknown.
    """

    scheduler: Callable[[Optimizer], Any]
    interval: Interval = "epoch"

    def __post_init__(self) -> None:
        if self.interval not in get_args(Interval):
            known = ", ".join(get_args(Interval))
            raise ValueError(f"lr_schedule.interval must be one of {known}, found {self.interval!r}")

    def try_out(self, optimizer: Optimizer) -> Any:
        """Take one step on a throwaway optimiser, so that wrong arguments fail early; return the scheduler."""
        scheduler = self.scheduler(optimizer)
        if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != "max":
            raise ValueError("lr_schedule.scheduler.mode must be max, because a higher ELBO is better, found min")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns that the optimiser has not taken a step yet
            advance(scheduler, *((0.0,) if self.interval == "validation" else ()))
        return scheduler


def advance(scheduler: Any, *bound: float) -> None:
    """Take one step of a scheduler; pass `bound` only to a `ReduceLROnPlateau`."""
    scheduler.step(*(bound if isinstance(scheduler, ReduceLROnPlateau) else ()))
