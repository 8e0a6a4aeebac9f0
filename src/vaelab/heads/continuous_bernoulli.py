"""The continuous Bernoulli head."""

import torch.distributions as td

import vaelab.distributions as vd
from vaelab.heads.base import Features, Head
from vaelab.networks import Network


class ContinuousBernoulli(Head):
    """Independent continuous Bernoulli pixels, from their logits l: Loaiza-Ganem & Cunningham (2019).

    `log p(x|z) = sum_i x_i l_i - log(1 + exp(l_i)) + log C(l_i)`: the formula of the Bernoulli for grey pixels, with
    the constant C that makes it a density. Like the Bernoulli it needs one layer only; see
    `vaelab.distributions.ContinuousBernoulli`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> ContinuousBernoulli(network)(network(torch.zeros(5, 2))).log_prob(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    pixels = "unit"
    measure = "density"

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.logits = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        return self.independent(vd.ContinuousBernoulli(self.logits(features), validate_args=False))
