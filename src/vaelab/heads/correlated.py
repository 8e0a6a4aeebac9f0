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
    """Base class of the heads with correlated elements, for events that are vectors.

    Args:
        network: the network before the head.
        min_scale: the floor of the scales, as in `PerPixelScale`.
        numbers: how many locations and scales each element has; if None, one, without an axis of its own.

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

    L is lower triangular. Its diagonal is a scale with a floor, as in `PerPixelScale`. The d (d - 1) / 2 numbers
    below it come from a linear layer.

    Args:
        network: the network before the head.
        min_scale: the floor of the diagonal of L.
    """

    place: Tensor
    is_below: Tensor

    def __init__(self, network: Network, min_scale: float = 1e-3) -> None:
        super().__init__(network, min_scale)
        (size,) = self.event_shape
        self.below = network.output_layer("vector", size * (size - 1) // 2) if size > 1 else None
        # for each element of L, which number of the layer it is; those on and above the diagonal are multiplied by 0
        place = torch.zeros(size, size, dtype=torch.long)
        place[*torch.tril_indices(size, size, -1)] = torch.arange(size * (size - 1) // 2)
        self.register_buffer("place", place.flatten(), persistent=False)
        self.register_buffer("is_below", torch.ones(size, size).tril(-1), persistent=False)

    def forward(self, features: Features) -> td.Distribution:
        scale_tril = self.scale(features).diag_embed()
        if self.below is not None:
            below = self.below(features).index_select(-1, self.place).unflatten(-1, self.is_below.shape)
            scale_tril = scale_tril + self.is_below * below
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
        variance = self.scale(features).square()
        return vd.LowRankMultivariateNormal(self.loc(features), self.factor(features), variance, validate_args=False)


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
