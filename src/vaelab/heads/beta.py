"""The beta head."""

import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.heads.base import Features, Head
from vaelab.heads.limits import Limited
from vaelab.networks import Network


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
        self.a, self.b = (Limited(network, lower=0.01, upper=1e5, initial=1.0) for _ in range(2))

    def forward(self, features: Features) -> td.Distribution:
        return self.independent(vd.Beta(self.a(features), self.b(features), validate_args=False))

    def monitors(self) -> dict[str, Tensor]:
        return {"a_at_limit": self.a.share_at_limit(), "b_at_limit": self.b.share_at_limit()}
