"""Heads of independent elements with a location and a scale."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch.distributions as td
from torch import Tensor

from vaelab.heads.base import Features, Head
from vaelab.heads.scales import OptimalScale, PerPixelScale, Scale
from vaelab.networks import Network


class LocationScale(Head):
    """Base class of the heads whose elements have a location and a scale: two parallel linear layers on one h.

    Args:
        network: the network before the head.
        scale: makes the `vaelab.heads.Scale` from the network; that module maps features to the scale.
        sigmoid_mean: pass the location through a sigmoid, as section 5 of Kingma & Welling (2014) does for Frey Face.

    Attributes:
        family: makes the elements' distribution from `(loc, scale)`.

    Raises:
        ValueError: the scale is an `OptimalScale`, but the family is not Gaussian; or, in forward, the scale is not a
            scalar and its number of axes differs from that of the location.
    """

    pixels = "unit"
    measure = "density"
    family: ClassVar[type[Any]]

    def __init__(
        self, network: Network, scale: Callable[[Network], Scale] = PerPixelScale, sigmoid_mean: bool = False
    ) -> None:
        super().__init__(network)
        self.loc = network.output_layer()
        self.scale = scale(network)
        self.sigmoid_mean = sigmoid_mean
        if isinstance(self.scale, OptimalScale) and not issubclass(self.family, td.Normal):
            raise ValueError(
                f"{type(self).__name__} expects a scale that is learnt or fixed, found OptimalScale, which is optimal "
                "for a Gaussian only: choose vaelab.heads.SharedScale, which learns one scale"
            )

    def forward(self, features: Features) -> td.Distribution:
        loc, scale = self.loc(features), self.scale(features)
        if self.sigmoid_mean:
            loc = loc.sigmoid()
        if scale.dim() not in (0, loc.dim()):
            raise ValueError(
                f"{type(self.scale).__name__} gives a scale of shape {tuple(scale.shape)}, expected a scalar or "
                f"{loc.dim()} axes that broadcast to {tuple(loc.shape)}"
            )
        scale = scale if scale.shape == loc.shape else scale.expand_as(loc)
        return self.independent(self.elements(features, loc, scale))

    def elements(self, features: Features, loc: Tensor, scale: Tensor) -> td.Distribution:
        """Return the distribution of the elements. A family with more than two parameters computes the others here."""
        return self.family(loc, scale, validate_args=False)

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        self.scale.observe(distribution, event)

    def monitors(self) -> dict[str, Tensor]:
        return self.scale.monitors()
