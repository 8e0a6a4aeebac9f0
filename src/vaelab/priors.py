"""Priors p(z): modules without input whose forward is a distribution over the latent."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import nn


class StandardNormal(nn.Module):
    """p(z) = N(0, I), section 3 of Kingma & Welling (2014); one event of shape `event_shape`."""

    loc: torch.Tensor
    scale: torch.Tensor

    def __init__(self, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(*event_shape), persistent=False)
        self.register_buffer("scale", torch.ones(*event_shape), persistent=False)

    def forward(self) -> td.Distribution:
        normal = td.Normal(self.loc, self.scale, validate_args=False)
        return td.Independent(normal, self.loc.dim(), validate_args=False)
