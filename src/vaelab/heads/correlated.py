"""Gaussian heads with correlated elements, and mixtures of Gaussians, for encoders."""

import torch
import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.errors import check_count
from vaelab.heads.base import Features, Head
from vaelab.heads.scales import PerPixelScale
from vaelab.networks import Network


class Correlated(Head):
    """Base class of the heads whose elements depend on each other, for events that are vectors.

    It makes the layers of the locations and of the scales; a subclass makes a distribution of them.

    Args:
        network: the network before the head.
        min_scale: the floor of the scales, as in `PerPixelScale`.
        numbers: how many locations and scales each element gets, along a last axis; None: one each, without that axis.

    Raises:
        ValueError: the event is not a vector.
    """

    pixels = "unit"
    measure = "density"

    def __init__(self, network: Network, min_scale: float, numbers: int | None = None) -> None:
        super().__init__(network)
        if len(self.event_shape) != 1:
            raise ValueError(f"{type(self).__name__} expects an event that is a vector, found shape {self.event_shape}")
        self.loc = network.output_layer(numbers=numbers)
        self.scale = PerPixelScale(network, min_scale, numbers)

    def monitors(self) -> dict[str, Tensor]:
        return self.scale.monitors()


class FullGaussian(Correlated):
    """A Gaussian with any covariance, `N(mu, L L^T)`, for events that are vectors.

    L is lower triangular. Its diagonal is a scale with a floor, as in `PerPixelScale`, and the numbers below it come
    from a linear layer.

    Args:
        network: the network before the head.
        min_scale: the floor of the diagonal of L.
    """

    def __init__(self, network: Network, min_scale: float = 1e-3) -> None:
        super().__init__(network, min_scale)
        self.below = network.output_layer(numbers=self.event_shape[0])

    def forward(self, features: Features) -> td.Distribution:
        scale_tril = self.below(features).tril(-1) + self.scale(features).diag_embed()
        return vd.MultivariateNormal(self.loc(features), scale_tril=scale_tril, validate_args=False)


class LowRankGaussian(Correlated):
    """A Gaussian with the covariance `W W^T + diag(sigma^2)`, for events that are vectors; W has `rank` columns.

    Args:
        network: the network before the head.
        rank: the number of directions in which elements vary together.
        min_scale: the floor of sigma.

    Raises:
        ValueError: `rank` is below 1.
    """

    def __init__(self, network: Network, rank: int = 2, min_scale: float = 1e-3) -> None:
        super().__init__(network, min_scale)
        check_count("rank", rank)
        self.factor = network.output_layer(numbers=rank)

    def forward(self, features: Features) -> td.Distribution:
        # in float64, and not `td.LowRankMultivariateNormal`, whose log-density loses all digits where sigma is small
        loc, factor, scale = self.loc(features), self.factor(features).double(), self.scale(features).double()
        covariance = factor @ factor.mT + scale.square().diag_embed()
        scale_tril = torch.linalg.cholesky_ex(covariance).L.to(loc.dtype)
        return vd.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)


class MixtureOfGaussians(Correlated):
    """A mixture of diagonal Gaussians, `sum_k pi_k N(mu_k, diag(sigma_k^2))`, for events that are vectors.

    Samples are reparametrised; see `vaelab.distributions.MixtureOfNormals`.

    Args:
        network: the network before the head.
        num_components: the number of components k.
        min_scale: the floor of the sigma_k.

    Raises:
        ValueError: `num_components` is below 1.
    """

    def __init__(self, network: Network, num_components: int = 4, min_scale: float = 1e-3) -> None:
        check_count("num_components", num_components)
        super().__init__(network, min_scale, num_components)
        self.logits = network.output_layer("vector", num_components)

    def forward(self, features: Features) -> td.Distribution:
        return vd.MixtureOfNormals(self.logits(features), self.loc(features).mT, self.scale(features).mT)
