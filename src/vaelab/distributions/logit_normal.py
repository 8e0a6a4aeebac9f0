"""The logit-normal distribution."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from vaelab.distributions.intervals import inside
from vaelab.distributions.normal import Normal

NODES = torch.linspace(-8, 8, 129, dtype=torch.float64).tolist()


class LogitNormal(td.Distribution):
    """The distribution on (0, 1) of `sigmoid(Y)`, Y ~ N(loc, scale^2): Aitchison & Shen (1980).

    `log p(x) = log N(logit x; loc, scale^2) - log x - log(1 - x)`. The last two terms are the Jacobian. At 0 and at 1,
    `log_prob` is that of the nearest number inside.

    Args:
        loc, scale: mean and standard deviation of the logit.
        validate_args: as in `torch.distributions`.

    Examples:
        >>> p = LogitNormal(torch.tensor(0.0), torch.tensor(1.0))
        >>> p.mean, p.log_prob(torch.tensor(0.5))
        (tensor(0.5000), tensor(0.4674))
    """

    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}  # type: ignore[override]
    support = constraints.unit_interval  # type: ignore[override]

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.logit = Normal(loc, scale, validate_args=validate_args)
        self.loc, self.scale = self.logit.loc, self.logit.scale
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """The mean has no closed form; it is exact to 1e-6 up to a scale of 10, and to 0.03 beyond."""
        return self._expectation(lambda x: x)

    @property
    def variance(self) -> Tensor:
        """The variance, as exact as the mean."""
        mean = self.mean
        return self._expectation(lambda x: (x - mean).square())

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.logit.sample(torch.Size(sample_shape)).sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        x = inside(value)
        log_x, log_rest = x.log(), torch.log1p(-x)
        return self.logit.log_prob(log_x - log_rest) - log_x - log_rest

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < X < upper) in nats: the normal mass between the logits of the ends."""
        return self.logit.log_mass(lower.double().clamp(0, 1).logit(), upper.double().clamp(0, 1).logit())

    def _expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Integrate over the standard normal by the trapezoid rule, which converges exponentially on a line."""
        total = torch.zeros_like(self.loc)
        for node in NODES:  # one by one, because all at once may not fit in memory
            weight = math.exp(-(node**2) / 2) * (NODES[1] - NODES[0]) / math.sqrt(2 * math.pi)
            total = total + weight * function((self.loc + self.scale * node).sigmoid())
        return total
