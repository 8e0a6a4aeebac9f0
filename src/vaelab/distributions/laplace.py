"""The Laplace distribution."""

import math

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions.intervals import log_one_minus_exp, standardised


class Laplace(td.Laplace):
    """`torch.distributions.Laplace`, with a method for the mass of an interval.

    Examples:
        >>> standard = Laplace(torch.zeros(()), torch.ones(()))
        >>> standard.log_mass(torch.tensor(0.0), torch.tensor(math.inf)).exp()
        tensor(0.5000)
    """

    def sf(self, value: Tensor | float) -> Tensor:
        """Return P(X > value), computed in float64."""
        z = (self.loc.double() - value) / self.scale
        tail = 0.5 * (-z.abs()).exp()
        return torch.where(z < 0, tail, 1 - tail).to(self.loc.dtype)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < X < upper) in nats, accurate far in a tail and for narrow intervals.

        Let a and b be the standardised ends. The result is `-|nearer end| - log 2 + log(1 - exp(a - b))` if both lie on
        one side of 0, else `log(1 - (exp(a) + exp(-b)) / 2)`. The computation is in float64, and the result has the
        dtype of `loc`. The arguments are those of `Normal.log_mass`.
        """
        a, b, width = standardised(self.loc, self.scale, lower, upper)
        distance = torch.maximum(a, -b)  # of 0 from the interval; negative if 0 is inside
        tail = log_one_minus_exp(-width) - distance
        around = -(torch.expm1(a.clamp_max(0)) + torch.expm1(-b.clamp_min(0)))
        inside = distance < 0
        log_around = torch.where(inside, around, 1.0).log()  # 1 where it is not used, because log 0 has no gradient
        return (torch.where(inside, log_around, tail) - math.log(2)).to(self.loc.dtype)
