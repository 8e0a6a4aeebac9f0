"""The logistic distribution."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from vaelab.distributions.intervals import log_one_minus_exp, standardised
from vaelab.randomness import standard_normal


class Logistic(td.Distribution):
    """The logistic distribution: `p(x) = exp(-y) / (s (1 + exp(-y))^2)`, `y = (x - loc) / s`.

    Its mean is `loc`, its variance `s^2 pi^2 / 3`, and its cdf `sigmoid(y)`. Its tails are exponential.

    Args:
        loc: the mean.
        scale: s, which is not the standard deviation.
        validate_args: as in `torch.distributions`.

    Raises:
        ValueError: arguments are validated, and the scale is not positive.

    Examples:
        >>> Logistic(torch.zeros(3), torch.ones(3)).log_prob(torch.zeros(3)).exp()
        tensor([0.2500, 0.2500, 0.2500])
    """

    has_rsample = True
    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}  # type: ignore[override]
    support = constraints.real  # type: ignore[override]

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Logistic":
        shape = torch.Size(batch_shape)
        return Logistic(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 3)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Return `loc + s logit(Phi(n))`, n ~ N(0, 1): only normal noise can be drawn for stacked models."""
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc)
        # use the smaller tail, because the larger one may round to 1; use erfc, because log_ndtr is slow under vmap
        tail = 0.5 * torch.erfc(noise.abs() / math.sqrt(2))
        return self.loc - self.scale * noise.sign() * tail.logit()

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        return logsigmoid(y) + logsigmoid(-y) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).sigmoid()

    def sf(self, value: Tensor | float) -> Tensor:
        """Return P(X > value), the survival function, accurate in both tails."""
        return ((self.loc - value) / self.scale).sigmoid()

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < X < upper) in nats, accurate far in a tail and for narrow intervals.

        For standardised ends a and b, the result is `log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b))`. The
        computation is in float64, and the result has the dtype of `loc`. The arguments are those of `Normal.log_mass`.
        """
        a, b, width = standardised(self.loc, self.scale, lower, upper)
        return (logsigmoid(b) + logsigmoid(-a) + log_one_minus_exp(-width)).to(self.loc.dtype)
