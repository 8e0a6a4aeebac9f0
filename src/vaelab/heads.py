"""Heads: the last layers of a `Conditional`, whose forward *is* a distribution.

A head receives features of shape `[*batch, in_features]` and returns a `torch.distributions.Distribution` with
`batch_shape = batch` and `event_shape` as asked for. It owns its final linear layers, and no other file knows the
formula of a likelihood. All log-probabilities are in nats.

To bring your own, derive from `Head`, take `(in_features, event_shape)` first, and say which pixels you model.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

import vaelab.distributions as vd
from vaelab.scales import OptimalScale, PerPixelScale, Scale

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


class LocationScale(Head):
    """Base of the heads whose elements have a location and a scale of their own: two parallel linear layers on one h.

    Args:
        scale: makes the module that maps features to the scale, from `(in_features, event_shape)`; see `vaelab.scales`.
        sigmoid_mean: pass the location through a sigmoid, as section 5 of the paper does for Frey Face.

    Attributes:
        family: makes the elements' distribution, from `(loc, scale)`; its mean is `loc`.
    """

    pixels = "unit"
    measure = "density"
    family: ClassVar[type[Any]]

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
        return self.independent(self.family(loc, scale, validate_args=False))

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        self.scale.observe((event - distribution.mean).detach().square())

    def monitors(self) -> dict[str, Tensor]:
        return self.scale.monitors()


class DiagonalGaussian(LocationScale):
    """Gaussian MLP output, for encoder and decoder alike: appendix C.2 of Kingma & Welling (2014).

    `mu = W4 h + b4`, `log sigma^2 = W5 h + b5`, `log p(x|z) = log N(x; mu, sigma^2 I)`: two parallel linear layers on
    one h, since the mean of a Gaussian says nothing of its variance. With other `scale`s, sigma is one number.
    Arguments are those of `LocationScale`.
    """

    family = vd.Normal


class Logistic(LocationScale):
    """Independent logistic pixels, with heavier tails than a Gaussian's.

    `mu = W h + b`, `log p(x|z) = sum_i -y_i - 2 log(1 + exp(-y_i)) - log s_i`, `y_i = (x_i - mu_i) / s_i`. What
    `vaelab.scales` calls sigma is here the logistic's own scale s; the standard deviation is `s pi / sqrt(3)`, 1.8
    times as large. Over levels (`OverLevels`) it is the discretised logistic likelihood of Salimans et al. (2017,
    PixelCNN++, section 2.1), with one component. Arguments are those of `LocationScale`.

    Raises:
        ValueError: an `OptimalScale`; no running mean of squared residuals maximises a logistic's likelihood.
    """

    family = vd.Logistic

    def __init__(
        self,
        in_features: int,
        event_shape: Sequence[int],
        scale: Callable[[int, Sequence[int]], Scale] = PerPixelScale,
        sigmoid_mean: bool = False,
    ) -> None:
        super().__init__(in_features, event_shape, scale, sigmoid_mean)
        if isinstance(self.scale, OptimalScale):
            raise ValueError(
                "a Logistic head expects a scale that is learnt or fixed, found OptimalScale, which is optimal for a "
                "Gaussian only: choose vaelab.scales.SharedScale, which learns one scale"
            )


class OverLevels(Head):
    """A head of densities over unit pixels, as one of masses over `num_levels` grey levels.

    `log P(l|z) = sum_i log P(l_i / L < X_i < (l_i + 1) / L | z)`, X the wrapped head's pixels; see
    `vaelab.distributions.Quantised`. With `pixels = (level + u) / L`, it is what the density's log-probability bounds
    from below, up to `D log L` (Theis et al. 2016, section 3.1), so a decoder that was trained on dequantised pixels
    is scored, without training it anew, as one of the levels themselves. The wrapped head stays a submodule.

    Args:
        head: an already made head of independent `unit` pixels.
        num_levels: L, at least 2.

    Raises:
        ValueError: another kind of head, fewer levels, or (in forward) pixels that are not independent.
    """

    pixels = "levels"
    measure = "mass"

    def __init__(self, head: Head, num_levels: int) -> None:
        if (head.pixels, head.measure) != ("unit", "density"):
            raise ValueError(
                f"OverLevels expects a head of densities over unit pixels, found {type(head).__name__}, of a "
                f"{head.measure} over {head.pixels} pixels: choose one such as DiagonalGaussian or Logistic"
            )
        if num_levels < 2:
            raise ValueError(f"num_levels must be at least 2, found {num_levels}")
        super().__init__(head.in_features, head.event_shape)
        self.head = head
        self.num_levels = num_levels

    def forward(self, features: Features) -> td.Distribution:
        unit = self.head(features)
        if not isinstance(unit, td.Independent) or unit.base_dist.event_shape:
            raise ValueError(
                f"OverLevels expects independent pixels, found {unit} of {type(self.head).__name__}: return "
                "self.independent(elements) from its forward"
            )
        return self.independent(vd.Quantised(unit.base_dist, self.num_levels))

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        elements = distribution.base_dist.pixels  # type: ignore[attr-defined]
        self.head.observe(self.independent(elements), (event + 0.5) / self.num_levels)  # the middles of the cells

    def monitors(self) -> dict[str, Tensor]:
        return self.head.monitors()
