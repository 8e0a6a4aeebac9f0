"""Heads of counts: Poisson and negative binomial."""

import math

import torch.distributions as td
from torch import Tensor
from torch.nn.functional import logsigmoid

import vaelab.distributions as vd
from vaelab.heads.base import Features
from vaelab.heads.limits import Limited
from vaelab.heads.of_levels import OfLevels
from vaelab.networks import Network

ROUNDING = 1e-6  # of log m, so that the mean never rounds to more than the highest level


class Poisson(OfLevels):
    """Independent Poisson pixels: `log p(x|z) = sum_i x_i log m_i - m_i - log x_i!`, x_i = 0, 1, 2, ...

    The mean is `m = (num_levels - 1) sigmoid(W h + b)`, because no pixel is likelier under a mean above the highest
    level. The counts have no upper end, so the mass above the highest level is lost: half of it for a pixel whose mean
    is that level. Samples may lie above that level too. The arguments are those of `OfLevels`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> Poisson(network, num_levels=256)(network(torch.zeros(5, 2))).log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    def __init__(self, network: Network, num_levels: int) -> None:
        super().__init__(network, num_levels)
        self.mean = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        log_mean = logsigmoid(self.mean(features)) + math.log(self.num_levels - 1)
        log_mean = log_mean.clamp_max(math.log(self.num_levels - 1) - ROUNDING)
        return self.independent(self.elements(features, log_mean))

    def elements(self, features: Features, log_mean: Tensor) -> td.Distribution:
        """Return the distribution of the elements from the logarithm of their mean."""
        return vd.Poisson(log_mean, validate_args=False)


class NegativeBinomial(Poisson):
    """Independent negative binomial pixels, with a mean m and a dispersion r for each; the variance is `m + m^2 / r`.

    `log p(x|z) = sum_i log NB(x_i; m_i, r_i)`, x_i = 0, 1, 2, ...; see `vaelab.distributions.NegativeBinomial`. A large
    r gives the `Poisson`, whose mean, arguments and missing upper end it has. A second layer gives r, between 0.01 and
    1e6.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> p = NegativeBinomial(network, num_levels=256)(network(torch.zeros(5, 2)))
        >>> p.log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    def __init__(self, network: Network, num_levels: int) -> None:
        super().__init__(network, num_levels)
        self.dispersion = Limited(network, lower=0.01, upper=1e6, initial=10.0)

    def elements(self, features: Features, log_mean: Tensor) -> td.Distribution:
        return vd.NegativeBinomial(log_mean, self.dispersion(features), validate_args=False)

    def monitors(self) -> dict[str, Tensor]:
        return {"dispersion_at_limit": self.dispersion.share_at_limit()}
