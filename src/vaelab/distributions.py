"""Distributions of single elements, beyond those of `torch.distributions`.

Their draws are ones that stacked models can make, and the mass of an interval (`log_mass`) scores a density over unit
pixels as a mass over grey levels. `event_shape` is empty: heads make events of them. Log-probabilities are in nats.
"""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from vaelab.randomness import standard_normal

_FAR = 1e30  # stands in for an infinite end, whose gradient would be 0 times infinity
_NARROW = 1e-2


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
        a, b, width = _standardised(self, lower, upper)
        to_the_right = a + b > 0  # where Phi is near 1, and differences of it are lost
        a, b = torch.where(to_the_right, -b, a), torch.where(to_the_right, -a, b)
        # 40 scales further out e^-800 is left, of no account; and far out log_ndtr's gradient is not to be trusted
        a = torch.maximum(a, b.clamp_max(0) - 40)
        wide = width * a.abs().clamp_min(1) > _NARROW
        log_upper = torch.special.log_ndtr(b)
        below = torch.where(wide, a, 2 * b - 1)  # never b, where the gradient of what `where` leaves out is infinite
        log_ratio = torch.special.log_ndtr(below) - log_upper
        middle = (a + b) / 2
        log_density = -0.5 * (middle.square() + math.log(2 * math.pi))
        narrow_mass = width.log() + log_density + width.square() * (middle.square() - 1) / 24
        return torch.where(wide, log_upper + _log_one_minus_exp(log_ratio), narrow_mass).to(self.loc.dtype)


class Logistic(td.Distribution):
    """The logistic distribution: `p(x) = exp(-y) / (s (1 + exp(-y))^2)`, `y = (x - loc) / s`.

    Its mean is `loc`, its variance `s^2 pi^2 / 3`, its cdf `sigmoid(y)`; its tails are exponential.

    Args:
        loc: the mean.
        scale: s, which is not the standard deviation.
        validate_args: as in `torch.distributions`.

    Raises:
        ValueError: a scale that is not positive, if arguments are validated.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {"loc": constraints.real, "scale": constraints.positive}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Logistic":
        shape = torch.Size(batch_shape)
        return Logistic(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 3)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """`loc + s logit(Phi(n))` with n from N(0, 1), the noise that stacked models can draw."""
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc)
        # by the smaller tail, which does not round to 1; with erfc, since log_ndtr is slow under vmap
        tail = 0.5 * torch.erfc(noise.abs() / math.sqrt(2))
        return self.loc - self.scale * noise.sign() * tail.logit()

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        return logsigmoid(y) + logsigmoid(-y) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).sigmoid()

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """log P(lower < X < upper) in nats, stable however far in a tail or narrow.

        With a, b the standardised ends, `log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b))`. Computed in float64,
        returned in the type of `loc`; arguments as `Normal.log_mass` has them.
        """
        a, b, width = _standardised(self, lower, upper)
        return (logsigmoid(b) + logsigmoid(-a) + _log_one_minus_exp(-width)).to(self.loc.dtype)


def _standardised(of: Normal | Logistic, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both ends and the width, in units of the scale; the width apart, since the ends may be large and near."""
    loc, scale = of.loc.double(), of.scale.double()
    lower, upper = lower.double().clamp(-_FAR, _FAR), upper.double().clamp(-_FAR, _FAR)
    return (lower - loc) / scale, (upper - loc) / scale, (upper - lower) / scale


def _log_one_minus_exp(x: Tensor) -> Tensor:
    return (-torch.expm1(x)).log()


class Quantised(td.Distribution):
    """Grey levels, by the mass that a distribution of unit pixels puts on their cells: `clamp(floor(L X), 0, L - 1)`.

    `P(l) = P(l / L < X < (l + 1) / L)`, the lowest level taking everything below as well and the highest everything
    above, so that the levels' masses sum to 1. These are the masses that a density of uniformly dequantised pixels
    bounds: `log P(l) >= E_u[log p((l + u) / L)] - log L` (Theis et al. 2016, section 3.1), the more loosely in the two
    end levels, whose mass outside of (0, 1) is lost to the density. Of a logistic they are the discretised logistic
    likelihood (Salimans et al. 2017, PixelCNN++, section 2.1).

    Args:
        pixels: X, elementwise. Its method `log_mass(lower, upper)` is used where it has one; else differences of its
            `cdf` in float64, which in a far tail underflow to 0: -inf.
        num_levels: L.

    Raises:
        ValueError: in `log_prob`, `mean` or `variance`: `pixels` has neither method.
    """

    def __init__(self, pixels: td.Distribution, num_levels: int) -> None:
        self.pixels, self.num_levels = pixels, num_levels
        super().__init__(pixels.batch_shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Quantised":
        return Quantised(self.pixels.expand(torch.Size(batch_shape)), self.num_levels)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.integer_interval(0, self.num_levels - 1)

    @property
    def mean(self) -> Tensor:
        """Of the levels; takes a pass over the pixels for each level."""
        return self._moment(1)

    @property
    def variance(self) -> Tensor:
        """Of the levels; takes two passes over the pixels for each level."""
        return self._moment(2) - self._moment(1).square()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = self.pixels.sample(torch.Size(sample_shape))
        return (drawn * self.num_levels).floor().clamp(0, self.num_levels - 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(l) in nats of levels `value`, integers 0 .. L - 1 of any type of number."""
        level = value.double()
        lowest, highest = level <= 0, level >= self.num_levels - 1
        lower, upper = level / self.num_levels, (level + 1) / self.num_levels
        log_mass = getattr(self.pixels, "log_mass", None)
        if log_mass is not None:
            return log_mass(lower.masked_fill(lowest, -math.inf), upper.masked_fill(highest, math.inf))
        try:
            below, up_to = self.pixels.cdf(lower).double(), self.pixels.cdf(upper).double()
        except NotImplementedError as error:
            raise ValueError(
                f"{type(self.pixels).__name__} cannot be scored over levels, it has neither log_mass nor cdf: "
                "give it a method log_mass(lower, upper), or cdf(value)"
            ) from error
        mass = up_to.masked_fill(highest.to(up_to.device), 1) - below.masked_fill(lowest.to(below.device), 0)
        return mass.clamp_min(0).log().to(value.dtype if value.is_floating_point() else torch.float64)

    def _moment(self, power: int) -> Tensor:
        total = torch.zeros(())
        for level in range(1, self.num_levels):  # one after another, since all at once may not fit in memory
            # a scalar on the CPU, which goes with tensors on any device
            total = total + level**power * self.log_prob(torch.tensor(level, dtype=torch.float64)).exp()
        return total
