"""A distribution over grey levels, made from a distribution over unit pixels."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints


class Quantised(td.Distribution):
    """The grey level `clamp(floor(L X), 0, L - 1)` of a unit pixel X: `P(l) = P(l / L < X < (l + 1) / L)`.

    The lowest level also gets all mass below 0, and the highest all mass above 1, so that the masses sum to 1. The
    density p of uniformly dequantised pixels gives a lower bound: `log P(l) >= E_u[log p((l + u) / L)] - log L` (Theis
    et al. 2016, section 3.1). The bound is looser at both end levels, because the density loses the mass outside
    (0, 1). If X is logistic, this is the discretised logistic likelihood (Salimans et al. 2017, PixelCNN++, section
    2.1).

    Args:
        pixels: the distribution of X, elementwise. If it has no method `log_mass(lower, upper)`, differences of its
            `cdf` in float64 serve instead; they underflow far in a tail and give -inf.
        num_levels: L.

    Raises:
        ValueError: in `log_prob`, `mean` or `variance`, if `pixels` has neither `log_mass` nor `cdf`.

    Examples:
        >>> levels = Quantised(td.Uniform(torch.zeros(()), 1.0), num_levels=4)
        >>> levels.log_prob(torch.arange(4.0)).exp()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]

    def __init__(self, pixels: td.Distribution, num_levels: int) -> None:
        self.pixels, self.num_levels = pixels, num_levels
        super().__init__(pixels.batch_shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Quantised":
        return Quantised(self.pixels.expand(torch.Size(batch_shape)), self.num_levels)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.num_levels - 1)

    @property
    def mean(self) -> Tensor:
        """The mean level. It costs one pass over the pixels for each level; a method `sf` of `pixels` makes it fast."""
        if (sf := getattr(self.pixels, "sf", None)) is None:
            return self._expectation(lambda level: level)
        total = torch.zeros(())
        for level in range(1, self.num_levels):
            total = total + sf(level / self.num_levels)  # E l = sum of P(l >= 1), P(l >= 2), ...
        return total

    @property
    def variance(self) -> Tensor:
        """The variance of the level. It costs two passes over the pixels for each level."""
        mean = self.mean  # subtracted before squaring, because a difference of squares cancels in float32
        return self._expectation(lambda level: (level - mean).square())

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self.pixels.sample(torch.Size(sample_shape))
        return (drawn * self.num_levels).floor().clamp(0, self.num_levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log P(l) in nats. `value` holds the levels, integers 0 .. L - 1 of any dtype."""
        level = value.double()
        lowest, highest = level <= 0, level >= self.num_levels - 1
        lower, upper = level / self.num_levels, (level + 1) / self.num_levels
        if (log_mass := getattr(self.pixels, "log_mass", None)) is not None:
            return log_mass(lower.masked_fill(lowest, -math.inf), upper.masked_fill(highest, math.inf))
        try:
            below, up_to = self.pixels.cdf(lower).double(), self.pixels.cdf(upper).double()
        except NotImplementedError as error:
            raise ValueError(
                f"{type(self.pixels).__name__} cannot be scored over levels, because it has neither log_mass nor cdf: "
                "give it a method log_mass(lower, upper), or cdf(value)"
            ) from error
        mass = up_to.masked_fill(highest.to(up_to.device), 1) - below.masked_fill(lowest.to(below.device), 0)
        return mass.clamp_min(0).log().to(value.dtype if value.is_floating_point() else torch.float64)

    def _expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        total = torch.zeros(())
        for level in torch.arange(self.num_levels):  # one by one, because all at once may not fit in memory
            # a scalar on the CPU works with tensors on any device
            total = total + function(level) * self.log_prob(level.double()).exp()
        return total
