"""Heads: the last layers of a `Conditional`, whose forward *is* a distribution.

A head receives features of shape `[*batch, in_features]` and returns a `torch.distributions.Distribution` with
`batch_shape = batch` and `event_shape` as asked for. It owns its final linear layers, and no other file knows the
formula of a likelihood. All log-probabilities are in nats.

To bring your own, derive from `Head`, take `(in_features, event_shape)` first, and say which pixels you model.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.randomness import standard_normal
from vaelab.scales import PerPixelScale, Scale

Features = Float[Tensor, "*batch features"]


class Head(nn.Module):
    """Base class of the heads, and the place where a head says what it needs of the world.

    Attributes:
        pixels: what the elements of the event are when the head is a decoder's: `"binary"` ({0, 1}), `"unit"`
            (strictly inside (0, 1)) or `"levels"` (integers from 0); the data serves them so.
        measure: `"mass"` if `log_prob` is the log of a probability, `"density"` if of a density over the pixels.
    """

    pixels: ClassVar[str]
    measure: ClassVar[str]

    def __init__(self, in_features: int, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.in_features = in_features

    def linear(self) -> nn.Linear:
        """A linear layer from the features to one number for each element of the event."""
        return nn.Linear(self.in_features, math.prod(self.event_shape))

    def as_event(self, flat: Tensor) -> Tensor:
        """Gives the last axis of `[*batch, prod(event_shape)]` the event's shape."""
        return flat if len(self.event_shape) == 1 else flat.unflatten(-1, self.event_shape)

    def independent(self, elements: td.Distribution) -> td.Independent:
        """One event of independent elements: `log_prob` sums over the event, and over nothing else."""
        return td.Independent(elements, len(self.event_shape), validate_args=False)

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Called by `Conditional.log_prob` in training, with what was predicted and what came."""

    def monitors(self) -> dict[str, Tensor]:
        """Scalars worth a curve, by name, since they were last asked for."""
        return {}


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


class Normal(td.Normal):
    """`torch.distributions.Normal`, whose draws of many stacked models are those of each alone."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return self.loc + self.scale * standard_normal(shape, self.loc)


class DiagonalGaussian(Head):
    """Gaussian MLP output, for encoder and decoder alike: appendix C.2 of Kingma & Welling (2014).

    `mu = W4 h + b4`, `log sigma^2 = W5 h + b5`, `log p(x|z) = log N(x; mu, sigma^2 I)`: two parallel linear layers on
    one h, since the mean of a Gaussian says nothing of its variance. With other `scale`s, sigma is one number.

    Args:
        scale: makes the module that maps features to sigma, from `(in_features, event_shape)`; see `vaelab.scales`.
        sigmoid_mean: pass mu through a sigmoid, as section 5 of the paper does for Frey Face.
    """

    pixels = "unit"
    measure = "density"

    def __init__(
        self,
        in_features: int,
        event_shape: Sequence[int],
        scale: Callable[[int, Sequence[int]], Scale] = PerPixelScale,
        sigmoid_mean: bool = False,
    ) -> None:
        super().__init__(in_features, event_shape)
        self.loc = self.linear()
        self.scale = scale(in_features, event_shape)
        self.sigmoid_mean = sigmoid_mean

    def forward(self, features: Features) -> td.Distribution:
        loc = self.as_event(self.loc(features))
        if self.sigmoid_mean:
            loc = loc.sigmoid()
        scale = self.scale(features)
        scale = scale if scale.shape == loc.shape else scale.expand_as(loc)
        return self.independent(Normal(loc, scale, validate_args=False))

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        self.scale.observe((event - distribution.mean).detach().square())

    def monitors(self) -> dict[str, Tensor]:
        return self.scale.monitors()
