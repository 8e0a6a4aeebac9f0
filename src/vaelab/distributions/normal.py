"""The normal distribution."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions.intervals import NARROW, log_one_minus_exp, standardised
from vaelab.randomness import standard_normal


class Normal(td.Normal):
    """`torch.distributions.Normal`, with a method for the mass of an interval.

    In `rsample`, each of several stacked models draws the sample that it would draw alone.

    Examples:
        >>> standard = Normal(torch.zeros(()), torch.ones(()))
        >>> standard.log_mass(torch.tensor(-1.0), torch.tensor(1.0)).exp()
        tensor(0.6827)
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * standard_normal(shape, self.loc)

    def sf(self, value: Tensor | float) -> Tensor:
        """Return P(X > value), computed in float64."""
        return torch.special.ndtr((self.loc.double() - value) / self.scale).to(self.loc.dtype)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < X < upper) in nats. The mass has about 8 correct digits, even far in a tail.

        Let a and b be the standardised ends, reflected into the left tail, and Phi the cdf. The result is
        `log Phi(b) + log(1 - exp(log Phi(a) - log Phi(b)))`. A narrow interval would lose digits in that difference, so
        its mass comes from the midpoint rule with one more term: `log w + log phi(m) + w^2 (m^2 - 1) / 24`, where
        m = (a + b) / 2, w = b - a, and phi is the density. The computation is in float64, and the result has the dtype
        of `loc`.

        Args:
            lower, upper: ends, `lower <= upper`, of shapes that broadcast with `batch_shape`. Either may be infinite.
                Equal ends give -inf.
        """
        a, b, width = standardised(self.loc, self.scale, lower, upper)
        on_the_right = a + b > 0  # in the right tail Phi is near 1, and its differences lose all digits
        a, b = torch.where(on_the_right, -b, a), torch.where(on_the_right, -a, b)
        # clamp a to b - 40: the mass beyond is e^-800 of the rest, and log_ndtr's gradient is wrong that far out
        a = torch.maximum(a, b.clamp_max(0) - 40)
        wide = width * a.abs().clamp_min(1) > NARROW
        log_upper = torch.special.log_ndtr(b)
        # at 2 * b - 1, not b: with b the unused branch would have an infinite gradient, which becomes NaN in `where`
        below = torch.where(wide, a, 2 * b - 1)
        log_ratio = torch.special.log_ndtr(below) - log_upper
        middle = (a + b) / 2
        log_density = -0.5 * (middle.square() + math.log(2 * math.pi))
        narrow_mass = width.log() + log_density + width.square() * (middle.square() - 1) / 24
        return torch.where(wide, log_upper + log_one_minus_exp(log_ratio), narrow_mass).to(self.loc.dtype)
