"""The normal distribution."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions.intervals import NARROW, log_one_minus_exp, standardised
from vaelab.randomness import standard_normal


class Normal(td.Normal):
    """`torch.distributions.Normal`, whose draws of many stacked models are those of each alone."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * standard_normal(shape, self.loc)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """log P(lower < X < upper) in nats, to some 8 digits of the mass however far in a tail or narrow.

        With a, b the standardised ends, reflected into the left tail, and Phi the cdf,
        `log Phi(b) + log(1 - exp(log Phi(a) - log Phi(b)))`. Where the interval is narrow that is a difference of
        equals, and the midpoint rule with its next term is used: with m = (a + b) / 2, w = b - a, and phi the density,
        `log w + log phi(m) + w^2 (m^2 - 1) / 24`. Computed in float64, returned in the type of `loc`.

        Args:
            lower, upper: ends, `lower <= upper`, of shapes that broadcast with `batch_shape`; either may be infinite.
                Equal ends give -inf.
        """
        a, b, width = standardised(self, lower, upper)
        to_the_right = a + b > 0  # where Phi is near 1, and differences of it are lost
        a, b = torch.where(to_the_right, -b, a), torch.where(to_the_right, -a, b)
        # 40 scales further out e^-800 is left, of no account; and far out log_ndtr's gradient is not to be trusted
        a = torch.maximum(a, b.clamp_max(0) - 40)
        wide = width * a.abs().clamp_min(1) > NARROW
        log_upper = torch.special.log_ndtr(b)
        below = torch.where(wide, a, 2 * b - 1)  # never b, where the gradient of what `where` leaves out is infinite
        log_ratio = torch.special.log_ndtr(below) - log_upper
        middle = (a + b) / 2
        log_density = -0.5 * (middle.square() + math.log(2 * math.pi))
        narrow_mass = width.log() + log_density + width.square() * (middle.square() - 1) / 24
        return torch.where(wide, log_upper + log_one_minus_exp(log_ratio), narrow_mass).to(self.loc.dtype)
