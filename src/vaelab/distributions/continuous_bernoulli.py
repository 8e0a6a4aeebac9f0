"""The continuous Bernoulli distribution."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import softplus

SMALL = 0.05  # for logits nearer to 0 than this, a series replaces a quotient of two small numbers


class ContinuousBernoulli(td.Distribution):
    """The continuous Bernoulli distribution on [0, 1], from its logit l: Loaiza-Ganem & Cunningham (2019).

    `log p(x) = x l - log(1 + exp(l)) + log C(l)`, `C(l) = l / tanh(l / 2)`. PyTorch's own clamps the probability in
    float32, which costs 0.2 nats at l = 20 and 2.5 at l = 200. Near l = 0, series stand in for the quotients.

    Args:
        logits: l.

    Examples:
        >>> ContinuousBernoulli(torch.tensor([-200.0, 0.0, 200.0])).mean
        tensor([0.0050, 0.5000, 0.9950])
    """

    arg_constraints: ClassVar = {"logits": constraints.real}  # type: ignore[override]
    support = constraints.unit_interval  # type: ignore[override]

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        """`1/2 + 1 / (2 tanh(l / 2)) - 1 / l`, near 0 `1/2 + l / 12 - l^3 / 720`."""
        logits, small, other = self._split()
        series = logits / 12 - logits**3 / 720
        return (0.5 + torch.where(small, series, 0.5 / (other / 2).tanh() - 1 / other)).to(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        """`1 / l^2 - 1 / (4 sinh(l / 2)^2)`, near 0 `1/12 - l^2 / 240`."""
        logits, small, other = self._split()
        exact = 1 / other.square() - 0.25 / (other / 2).sinh().square()
        return torch.where(small, 1 / 12 - logits.square() / 240, exact).to(self.logits.dtype)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Invert the cdf: 1 - x, or x if l < 0, is `-log(1 - u (1 - exp(-|l|))) / |l|`, u uniform on [0, 1)."""
        size = self.logits.detach().abs().clamp_min(1e-6)
        uniform = torch.rand(self._extended_shape(torch.Size(sample_shape)), dtype=size.dtype, device=size.device)
        distance = (-torch.log1p(uniform * torch.expm1(-size)) / size).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - distance, distance)

    def log_prob(self, value: Tensor) -> Tensor:
        logits = self.logits  # not abs(logits), whose gradient is wrong at 0
        above, below = logits * (value - 1) - softplus(-logits), logits * value - softplus(logits)
        return torch.where(logits > 0, above, below) + _log_constant(logits)

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return log P(lower < X < upper) in nats, as `l lower + log w + A(l w) - A(l)`.

        w is the width of the interval inside [0, 1], and `A(l) = log((exp(l) - 1) / l)`. The computation is in float64.
        """
        logits, lower, upper = self.logits.double(), lower.double().clamp(0, 1), upper.double().clamp(0, 1)
        width = upper - lower
        log_mass = logits * lower + width.log() + _log_normaliser(logits * width) - _log_normaliser(logits)
        return log_mass.to(self.logits.dtype)

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the logits in float64, where they are small, and what to divide by elsewhere."""
        logits = self.logits.double()
        small = logits.abs() < SMALL
        return logits, small, logits.masked_fill(small, 1.0)


def _log_constant(logits: Tensor) -> Tensor:
    """Return log C(l). C is even in l."""
    size = logits.abs()
    small = size < SMALL
    other = size.masked_fill(small, 1.0)
    squared = logits.clamp(-SMALL, SMALL).square()
    series = math.log(2) + squared / 12 - 7 * squared.square() / 1440
    return torch.where(small, series, other.log() - (other / 2).tanh().log())


def _log_normaliser(logits: Tensor) -> Tensor:
    """Return A(l) = log((exp(l) - 1) / l)."""
    return softplus(logits) - _log_constant(logits)
