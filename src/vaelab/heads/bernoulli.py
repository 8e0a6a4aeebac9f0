"""The Bernoulli head."""

from collections.abc import Sequence

import torch.distributions as td

from vaelab.heads.base import Features, Head


class Bernoulli(Head):
    """Bernoulli MLP output: appendix C.1 of Kingma & Welling (2014), by logits.

    `y = sigmoid(W2 h + b2)`, `log p(x|z) = sum_i x_i log y_i + (1 - x_i) log(1 - y_i)`, x_i in {0, 1}.
    One linear layer suffices: the mean of a Bernoulli settles its variance, y (1 - y).
    """

    pixels = "binary"
    measure = "mass"

    def __init__(self, in_features: int, event_shape: Sequence[int]) -> None:
        super().__init__(in_features, event_shape)
        self.logits = self.linear()

    def forward(self, features: Features) -> td.Distribution:
        logits = self.as_event(self.logits(features))
        return self.independent(td.Bernoulli(logits=logits, validate_args=False))
