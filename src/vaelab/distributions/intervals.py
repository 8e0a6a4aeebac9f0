"""Helpers for masses of intervals, and for densities on the interval (0, 1)."""

import torch
from torch import Tensor

FAR = 1e30  # replaces an infinite end, whose gradient would be 0 times infinity
NARROW = 1e-2  # the midpoint rule is used up to this width / scale; far in a tail, up to less


def standardised(loc: Tensor, scale: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the standardised ends of an interval, and its width in units of the scale, in float64.

    The width is computed from `lower` and `upper`, because a difference of large standardised ends would lose digits.
    """
    loc, scale = loc.double(), scale.double()
    lower, upper = lower.double().clamp(-FAR, FAR), upper.double().clamp(-FAR, FAR)
    return (lower - loc) / scale, (upper - loc) / scale, (upper - lower) / scale


def log_one_minus_exp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) for x < 0."""
    return (-torch.expm1(x)).log()


def inside(value: Tensor) -> Tensor:
    """Return values of [0, 1] strictly inside: 0 becomes the smallest normal number, 1 the largest number below 1."""
    limits = torch.finfo(value.dtype)
    return value.clamp(limits.tiny, 1 - limits.eps / 2)
