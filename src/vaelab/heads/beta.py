"""The beta head."""

import torch.distributions as td

import vaelab.distributions as vd
from vaelab.heads.base import Features, Head
from vaelab.heads.limits import between
from vaelab.networks import Network

CONCENTRATIONS = (0.01, 1e5, 1.0)  # lower and upper limit, and where training begins


class Beta(Head):
    """Independent beta pixels: `log p(x|z) = sum_i (a_i - 1) log x_i + (b_i - 1) log(1 - x_i) - log B(a_i, b_i)`.

    Two parallel layers give the concentrations a and b. Training begins near a = b = 1, the uniform density. The
    concentrations are at least 0.01, because smaller ones draw nothing but 0 and 1. They are at most 1e5, because the
    density has no upper bound; there, the standard deviation of a grey pixel is a third of one of 256 levels.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> Beta(network)(network(torch.zeros(5, 2))).log_prob(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    pixels = "unit"
    measure = "density"

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.a = network.output_layer()
        self.b = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        a, b = (between(*CONCENTRATIONS, layer(features)) for layer in (self.a, self.b))
        return self.independent(vd.Beta(a, b, validate_args=False))
