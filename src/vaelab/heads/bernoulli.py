"""The Bernoulli head."""

import torch
import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.heads.base import Features, Head
from vaelab.networks import Network


class Bernoulli(Head):
    """Independent Bernoulli pixels, parametrised by logits: appendix C.1 of Kingma & Welling (2014).

    `y = sigmoid(W2 h + b2)`, `log p(x|z) = sum_i x_i log y_i + (1 - x_i) log(1 - y_i)`, x_i in {0, 1}.
    One linear layer suffices, because the mean y of a Bernoulli determines its variance y (1 - y).

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> p = Bernoulli(network)(network(torch.zeros(5, 2)))
        >>> p.log_prob(torch.ones(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    pixels = "binary"
    measure = "mass"

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.logits = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        elements = td.Bernoulli(logits=self.logits(features), validate_args=False)
        return vd.IndependentBernoulli(elements, len(self.event_shape), validate_args=False)

    @torch.no_grad()
    def begin_at(self, mean: Tensor) -> None:
        """Set the biases b2 such that y is this mean, `[*event_shape]`, where `W2 h` is 0.

        A convolution has one bias for each channel; then y is the mean over its pixels.
        """
        *_, layer = self.logits.modules()
        layer.bias.copy_(mean.reshape(len(layer.bias), -1).mean(1).logit())  # type: ignore[union-attr, arg-type]
