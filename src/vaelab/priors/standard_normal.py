"""Priors p(z): modules without input whose forward is a distribution over the latent."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import nn


class UnitNormal(td.Normal):
    """N(0, 1) for each element of `loc` (zeros) and `scale` (ones); a class of its own, for its simpler KL."""


@td.kl.register_kl(td.Normal, UnitNormal)
def _kl_from_unit_normal(q: td.Normal, p: UnitNormal) -> torch.Tensor:
    """KL(N(mu, sigma^2) || N(0, 1)) = (mu^2 + sigma^2 - 1) / 2 - log sigma: appendix B of Kingma & Welling (2014)."""
    return 0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()


class StandardNormal(nn.Module):
    """p(z) = N(0, I), section 3 of Kingma & Welling (2014); one event of shape `event_shape`."""

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(*event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(*event_shape), persistent=False)

    def forward(self) -> td.Distribution:
        normal = UnitNormal(self.loc, self.scale, validate_args=False)
        return td.Independent(normal, self.loc.dim(), validate_args=False)
