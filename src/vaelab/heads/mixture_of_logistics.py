"""The head of mixtures of discretised logistics."""

import torch
import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.errors import check_count
from vaelab.heads.base import Features
from vaelab.heads.of_levels import OfLevels
from vaelab.heads.scales import PerPixelScale
from vaelab.networks import Network


class MixtureOfLogistics(OfLevels):
    """A mixture of discretised logistics for each pixel: Salimans et al. (2017, PixelCNN++, sections 2.1 and 2.2).

    `log P(l|z) = sum_hw log sum_k w_khw prod_c P_k(l_chw)`. All channels of a pixel share the weights w, because one
    object covers the whole pixel; given the component k, they are independent (PixelCNN++ also shifts the mean of a
    channel by the channels before it). P_k is the mass of a logistic in the cell of the level; see
    `vaelab.distributions.Quantised`. The locations pass through a sigmoid; those of different components begin apart.

    Args:
        network: the network before the head; the event is an image.
        num_levels: how many values a pixel of the data can have.
        num_components: number of components k.
        min_scale: the floor of the logistic's scale, in units of [0, 1].

    Raises:
        ValueError: the event is not an image, `num_components` is below 1, or `num_levels` below 2.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (3, 8, 8))
        >>> p = MixtureOfLogistics(network, num_levels=256, num_components=5)(network(torch.zeros(5, 2)))
        >>> p.log_prob(torch.zeros(5, 3, 8, 8)).shape
        torch.Size([5])
    """

    offsets: Tensor

    def __init__(self, network: Network, num_levels: int, num_components: int = 5, min_scale: float = 0.0) -> None:
        super().__init__(network, num_levels)
        check_count("num_components", num_components)
        self.logits = network.output_layer("pixel", num_components)
        self.loc = network.output_layer(numbers=num_components)
        self.scale = PerPixelScale(network, min_scale, numbers=num_components)
        quantiles = (torch.arange(num_components) + 0.5) / num_components
        self.register_buffer("offsets", quantiles.logit(), persistent=False)

    def forward(self, features: Features) -> td.Distribution:
        loc = (self.loc(features) + self.offsets).sigmoid()
        logistics = vd.Logistic(loc, self.scale(features), validate_args=False)
        return vd.PixelMixture(self.logits(features), vd.Quantised(logistics, self.num_levels))

    def monitors(self) -> dict[str, Tensor]:
        return self.scale.monitors()
