"""Distributions over counts 0, 1, 2, ..., from the logarithm of their mean, computed in float64."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

STIRLING = 30.0  # the series of log-gamma is exact to 1e-13 from here on


class Poisson(td.Distribution):
    """The Poisson distribution, `log p(x) = x log m - m - log x!`, from the logarithm of its mean m.

    Args:
        log_mean: log m, so that a tiny mean does not underflow.
        validate_args: as in `torch.distributions`.

    Examples:
        >>> Poisson(torch.tensor(-200.0)).log_prob(torch.tensor([0.0, 1.0]))
        tensor([  -0., -200.])
    """

    arg_constraints: ClassVar = {"log_mean": constraints.real}  # type: ignore[override]
    support = constraints.nonnegative_integer  # type: ignore[override]

    def __init__(self, log_mean: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean = log_mean
        super().__init__(log_mean.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return torch.poisson(self._rates(torch.Size(sample_shape))).to(self.log_mean.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        x, log_mean = value.double(), self.log_mean.double()
        return (x * log_mean - log_mean.exp() - torch.lgamma(x + 1)).to(self.log_mean.dtype)

    @torch.no_grad()
    def _rates(self, shape: torch.Size) -> Tensor:
        """Return the rate of the Poisson distribution that each sample is drawn from."""
        return self.log_mean.double().exp().expand(self._extended_shape(shape))


class NegativeBinomial(Poisson):
    """The negative binomial distribution, from the logarithm of its mean m and its dispersion r.

    `log p(x) = log Gamma(x + r) / (Gamma(r) x!) + r log(r / (r + m)) + x log(m / (r + m))`. The variance is
    `m + m^2 / r`: a large r gives the Poisson. There, `log Gamma(x + r) - log Gamma(r)` would lose all digits, so
    Stirling's series replaces it from r = 30 on, with the large terms cancelled by hand.

    Args:
        log_mean: log m.
        dispersion: r.
        validate_args: as in `torch.distributions`.

    Examples:
        >>> x, log_mean = torch.tensor(7.0), torch.tensor(2.0)
        >>> NegativeBinomial(log_mean, torch.tensor(1e12)).log_prob(x), Poisson(log_mean).log_prob(x)
        (tensor(-1.9142), tensor(-1.9142))
    """

    arg_constraints: ClassVar = {  # type: ignore[override]
        "log_mean": constraints.real,
        "dispersion": constraints.positive,
    }

    def __init__(self, log_mean: Tensor, dispersion: Tensor, validate_args: bool | None = None) -> None:
        log_mean, self.dispersion = torch.broadcast_tensors(log_mean, dispersion)
        super().__init__(log_mean, validate_args=validate_args)

    @property
    def variance(self) -> Tensor:
        return self.mean + self.mean.square() / self.dispersion

    def log_prob(self, value: Tensor) -> Tensor:
        x, log_mean, r = value.double(), self.log_mean.double(), self.dispersion.double()
        rest = x * log_mean - (r + x) * torch.log1p(log_mean.exp() / r) - torch.lgamma(x + 1)
        return (_log_rising(x, r) + rest).to(self.log_mean.dtype)

    @torch.no_grad()
    def _rates(self, shape: torch.Size) -> Tensor:
        r = self.dispersion.double()
        return td.Gamma(r, 1.0).sample(shape) / r * super()._rates(shape)


def _log_rising(x: Tensor, r: Tensor) -> Tensor:
    """Return log Gamma(x + r) - log Gamma(r) - x log r, which goes to 0 for large r."""
    large, small = r.clamp_min(STIRLING), r.clamp_max(STIRLING)
    series = (large + x - 0.5) * torch.log1p(x / large) - x + _remainder(large + x) - _remainder(large)
    exact = torch.lgamma(x + small) - torch.lgamma(small) - x * small.log()
    return torch.where(r < STIRLING, exact, series)


def _remainder(z: Tensor) -> Tensor:
    """Return log Gamma(z) minus Stirling's formula: 1 / 12z - 1 / 360z^3 + 1 / 1260z^5."""
    return (1 / 12 - (1 / 360 - 1 / (1260 * z.square())) / z.square()) / z
