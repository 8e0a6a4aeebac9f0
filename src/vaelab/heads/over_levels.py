"""A head that turns a density over unit pixels into a mass over grey levels."""

import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.heads.base import Features, Head
from vaelab.heads.of_levels import OfLevels


class OverLevels(OfLevels):
    """Turn a density over unit pixels into a mass over `num_levels` grey levels.

    `log P(l|z) = sum_i log P(l_i / L < X_i < (l_i + 1) / L | z)`, where X are the wrapped head's pixels; see
    `vaelab.distributions.Quantised`. A decoder that was trained on dequantised pixels, `(level + u) / L`, can thus be
    scored on the levels themselves, without new training. On average, the decoder's log-density minus `D log L`, for D
    pixels, is a lower bound of this log-mass (Theis et al. 2016, section 3.1).

    Args:
        head: a head of independent `unit` pixels; it becomes a submodule.
        num_levels: L.

    Raises:
        ValueError: `head` is not a density over unit pixels; `num_levels` is not a whole number of at least 2; or, in
            forward, the pixels are not independent.

    Examples:
        >>> import torch
        >>> from vaelab.heads import DiagonalGaussian
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> head = OverLevels(DiagonalGaussian(network), num_levels=256)
        >>> head(network(torch.zeros(5, 2))).log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    def __init__(self, head: Head, num_levels: int) -> None:
        if (head.pixels, head.measure) != ("unit", "density"):
            raise ValueError(
                f"OverLevels expects a density over unit pixels, found {type(head).__name__}, a {head.measure} over "
                f"{head.pixels} pixels: choose a head such as DiagonalGaussian or Logistic"
            )
        super().__init__(head, num_levels)
        self.head = head

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
        self.head.observe(self.independent(elements), (event + 0.5) / self.num_levels)  # the middle of each level

    def monitors(self) -> dict[str, Tensor]:
        return self.head.monitors()
