"""The categorical head."""

import torch.distributions as td

import vaelab.distributions as vd
from vaelab.heads.base import Features
from vaelab.heads.of_levels import OfLevels
from vaelab.networks import Network


class Categorical(OfLevels):
    """A free mass for each grey level of each pixel: `log p(x|z) = sum_i log softmax(l_i)[x_i]`.

    It gives `num_levels` logits for each pixel, `[*batch, *event_shape, num_levels]`, and knows no order of the levels.
    Its layer is large behind an MLP: 100 million weights for 28x28 pixels of 256 levels and 500 hidden units. The
    arguments are those of `OfLevels`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 8, 8))
        >>> Categorical(network, num_levels=17)(network(torch.zeros(5, 2))).log_prob(torch.ones(5, 1, 8, 8)).shape
        torch.Size([5])
    """

    def __init__(self, network: Network, num_levels: int) -> None:
        super().__init__(network, num_levels)
        self.logits = network.output_layer(numbers=num_levels)

    def forward(self, features: Features) -> td.Distribution:
        return self.independent(vd.Levels(logits=self.logits(features), validate_args=False))
