"""Normalising flows."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from vaelab.randomness import standard_normal


class Flow(td.Distribution):
    """The distribution of `z = loc + scale f(e)`, where e ~ N(0, I) and f is a chain of invertible layers.

    `log q(z) = log N(e; 0, I) - log |det df/de| - sum_j log scale_j`: Rezende & Mohamed (2015), section 3.1. A flow has
    no closed form of its mean. In `rsample`, each of several stacked models draws the sample that it would draw alone.

    Args:
        loc, scale: `[*batch, d]`.
        layers: the layers of f, first to last, transforms of vectors of size d, such as an
            `AutoregressiveLayer` gives for a context.

    Attributes:
        has_slow_density: that `log_prob` takes too long for millions of points.
    """

    has_rsample = True
    has_slow_density = True
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, loc: Tensor, scale: Tensor, layers: Sequence[Any]) -> None:
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.loc, self.scale, self.layers = loc, scale, layers

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z, and return z and log q(z) in nats, by one pass through the layers."""
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc)
        u, log_density = noise, self._log_density_of(noise)
        for layer in self.layers:
            u, log_det = layer.call_and_ladj(u)
            log_density = log_density - log_det
        return self.loc + self.scale * u, log_density

    def log_prob(self, value: Tensor) -> Tensor:
        u = (value - self.loc) / self.scale
        log_det: Tensor | float = 0.0
        for layer in reversed(self.layers):
            u, own = layer.inv.call_and_ladj(u)
            log_det = log_det + own
        return self._log_density_of(u) + log_det

    def _log_density_of(self, noise: Tensor) -> Tensor:
        """Return log N(e; 0, I) - sum_j log scale_j."""
        return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1) - self.scale.log().sum(-1)
