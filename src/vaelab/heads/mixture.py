"""The mixture of any heads over the same pixels, and a head of one level to mix with."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch.distributions as td
from torch import Tensor, nn

import vaelab.distributions as vd
from vaelab.errors import check_count
from vaelab.heads.base import Features, Head
from vaelab.heads.of_levels import OfLevels
from vaelab.heads.scales import OptimalScale
from vaelab.networks import Network

MOST = 256  # heads in a mixture, those of mixtures in it included, because a stranger's configuration may ask for any


class Mixture(Head):
    """A mixture of heads of any families: `log p(x|z) = log sum_k pi_k p_k(x)`, with weights pi from a linear layer.

    Args:
        network: the network before the heads, which all share.
        components: make the heads.
        over: `event` mixes whole events, with one pi for each; `pixel` mixes each pixel of an image by itself,
            `sum_hw log sum_k pi_khw prod_c p_k(x_chw)`, so that the channels of a pixel share its component.
        num_copies: how many heads, each with its own layers, every entry of `components` makes.

    Raises:
        ValueError: the heads differ in their pixels, measure or number of levels; there is none, or more than 256; one
            has an `OptimalScale`; `over` is unknown, or needs an image; or, in forward, `over` is `pixel`, but the
            pixels of a head are not independent.

    Examples:
        >>> import torch
        >>> from vaelab.heads import Bernoulli
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> p = Mixture(network, [Bernoulli], over="event", num_copies=3)(network(torch.zeros(5, 2)))
        >>> p.log_prob(torch.ones(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        network: Network,
        components: Sequence[Callable[[Network], Head]],
        over: str = "pixel",
        num_copies: int = 1,
    ) -> None:
        super().__init__(network)
        check_count("num_copies", num_copies)
        if over not in ("event", "pixel"):
            raise ValueError(f"over must be event or pixel, found {over!r}: type decoder.head.over=pixel")
        self.over = over
        self.heads = nn.ModuleList()
        for make in (make for make in components for _ in range(num_copies)):
            self.heads.append(make(network))
            if sum(isinstance(module, Head) for module in self.heads.modules()) > MOST:
                raise ValueError(
                    f"a mixture expects at most {MOST} heads in all, found more: type a smaller num_copies"
                )
        declared = ("pixels", "measure", "num_levels")
        kinds: dict[tuple[Any, ...], type] = {
            tuple(getattr(head, name, None) for name in declared): type(head) for head in self.parts
        }
        if len(kinds) != 1 or not hasattr(self.parts[0], "pixels"):
            found = ", ".join(f"{kind.__name__} ({pixels})" for (pixels, *_), kind in kinds.items()) or "none"
            raise ValueError(f"a mixture expects heads of one kind of pixels, with the same levels, found {found}")
        ((self.pixels, self.measure, num_levels),) = kinds
        if num_levels is not None:
            self.num_levels = num_levels
        if any(isinstance(module, OptimalScale) for module in self.heads.modules()):
            raise ValueError(
                "a mixture expects scales that are learnt or fixed, found OptimalScale, which is optimal for a single "
                "Gaussian only: choose vaelab.heads.SharedScale"
            )
        self.logits = network.output_layer("pixel" if over == "pixel" else "vector", len(self.heads))

    @property
    def parts(self) -> list[Head]:
        """The heads of the components."""
        return cast(list[Head], list(self.heads))

    def forward(self, features: Features) -> td.Distribution:
        components, logits = [head(features) for head in self.parts], self.logits(features)
        if self.over == "event":
            weights = td.Categorical(logits=logits, validate_args=False)
            return td.MixtureSameFamily(weights, vd.Stacked(components), validate_args=False)
        for head, p in zip(self.parts, components, strict=True):
            if not isinstance(p, td.Independent) or p.base_dist.event_shape:
                raise ValueError(
                    f"a mixture over pixels expects independent pixels, found {type(p).__name__} of "
                    f"{type(head).__name__}: type decoder.head.over=event"
                )
        return vd.PixelMixture(logits, vd.Stacked([p.base_dist for p in components]))

    def monitors(self) -> dict[str, Tensor]:
        return {f"{name}_{k}": value for k, head in enumerate(self.parts) for name, value in head.monitors().items()}


class PointMass(OfLevels):
    """Every pixel has the same level, whatever the features: a component of a `Mixture`, which inflates this level.

    With a `Poisson` over pixels it gives the zero-inflated Poisson, `P(0) = pi + (1 - pi) exp(-m)` (Lambert 1992).

    Args:
        network: the network before the head.
        num_levels: how many values a pixel of the data can have.
        level: the level.

    Raises:
        ValueError: `num_levels` is not a whole number of at least 2, or `level` is none of the levels.
    """

    def __init__(self, network: Network, num_levels: int, level: int = 0) -> None:
        super().__init__(network, num_levels)
        check_count("level", level, least=0)
        if level >= num_levels:
            raise ValueError(f"level must be below num_levels={num_levels}, found {level}")
        self.level, self.feature_dims = float(level), len(network.features_shape)

    def forward(self, features: Features) -> td.Distribution:
        batch = features.shape[: features.dim() - self.feature_dims]
        return self.independent(vd.PointMass(features.new_full((*batch, *self.event_shape), self.level)))
