"""Schedules of the learning rate: PyTorch's, and when they take their steps."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

Interval = Literal["step", "epoch", "validation"]


@dataclass
class Schedule:
    """A scheduler of `torch.optim.lr_scheduler`, and after what it takes a step.

    Args:
        scheduler: makes it from the optimiser.
        interval: after every optimiser `step`, `epoch`, or `validation`, whose bound in nats a `ReduceLROnPlateau` is
            told; the bound is better when higher, so give it `mode="max"`.

    Raises:
        ValueError: an unknown `interval`.
    """

    scheduler: Callable[[Optimizer], Any]
    interval: Interval = "epoch"

    def __post_init__(self) -> None:
        if self.interval not in get_args(Interval):
            raise ValueError(
                f"lr_schedule.interval must be one of {', '.join(get_args(Interval))}, not {self.interval!r}"
            )

    def try_out(self, optimizer: Optimizer) -> None:
        """Takes a step with an optimiser made for that, so that what cannot work fails before training begins.

        Raises:
            TypeError: a scheduler that lacks a number, or the bound that another `interval` would tell it.
            ValueError: numbers that it refuses.
        """
        scheduler = self.scheduler(optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimiser has not taken a step before
            advance(scheduler, *((0.0,) if self.interval == "validation" else ()))


def advance(scheduler: Any, *bound: float) -> None:
    """Has a scheduler take its step; none but `ReduceLROnPlateau` is told the bound."""
    scheduler.step(*(bound if isinstance(scheduler, ReduceLROnPlateau) else ()))
