"""The standard normal prior."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td

from vaelab.priors.base import Encode, Prior


class UnitNormal(td.Normal):
    """N(0, 1), with `loc` zeros and `scale` ones. A separate class, because its density and its KL are cheaper."""

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        return -0.5 * (value - self.loc).square() - 0.5 * math.log(2 * math.pi)


@td.kl.register_kl(td.Normal, UnitNormal)
def _kl_to_unit_normal(q: td.Normal, p: UnitNormal) -> torch.Tensor:
    """Return (mu^2 + sigma^2 - 1) / 2 - log sigma, elementwise: appendix B of Kingma & Welling (2014)."""
    return 0.5 * (q.loc.square() + q.scale.square() - 1) - q.scale.log()


class StandardNormal(Prior):
    """The prior p(z) = N(0, I): section 3 of Kingma & Welling (2014)."""

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(latent_shape, event_shape)
        self.register_buffer("loc", torch.zeros(*latent_shape), persistent=False)
        self.register_buffer("scale", torch.ones(*latent_shape), persistent=False)

    def forward(self, encode: Encode) -> td.Distribution:
        normal = UnitNormal(self.loc, self.scale, validate_args=False)
        return td.Independent(normal, self.loc.dim(), validate_args=False)
