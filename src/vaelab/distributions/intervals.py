"""Helpers that compute the mass of an interval."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

FAR = 1e30  # replaces an infinite end, because its gradient would be 0 times infinity
NARROW = 1e-2  # width in scales below which the midpoint rule is used


@runtime_checkable
class LocationScale(Protocol):
    """A distribution with a location and a scale."""

    loc: Tensor
    scale: Tensor


def standardised(of: LocationScale, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return both ends and the width of an interval in units of the scale, in float64.

    The width is computed from the ends as given, because a difference of large standardised ends would lose digits.
    """
    loc, scale = of.loc.double(), of.scale.double()
    lower, upper = lower.double().clamp(-FAR, FAR), upper.double().clamp(-FAR, FAR)
    return (lower - loc) / scale, (upper - loc) / scale, (upper - lower) / scale


def log_one_minus_exp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0."""
    return (-torch.expm1(x)).log()
