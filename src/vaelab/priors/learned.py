"""Priors whose parameters are learnt."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor, nn

from vaelab.errors import check_count
from vaelab.priors.base import Encode, Prior

MIN_SCALE = 1e-3  # floor of a standard deviation, because a density has no upper bound as it goes to 0
LOG_SCALE = math.log(1 - MIN_SCALE)  # of a standard deviation of 1


class LearnedNormal(Prior):
    """The prior p(z) = N(mu, diag(sigma^2)), with learnt mu and sigma; it begins as N(0, I)."""

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = nn.Parameter(torch.zeros(*latent_shape))
        self.log_scale = nn.Parameter(torch.full(latent_shape, LOG_SCALE))

    def forward(self, encode: Encode) -> td.Distribution:
        return normals(self.loc, self.log_scale)


class MixtureOfGaussians(Prior):
    """The prior `p(z) = sum_k pi_k N(z; mu_k, diag(sigma_k^2))`, with learnt weights, means and scales.

    The means begin as draws from N(0, I), so that the components differ.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_components: the number of components.

    Raises:
        ValueError: `num_components` is below 1.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int], num_components: int = 10) -> None:
        super().__init__(latent_shape, event_shape)
        check_count("prior.num_components", num_components)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(num_components, *latent_shape))
        self.log_scale = nn.Parameter(torch.full((num_components, *latent_shape), LOG_SCALE))

    def forward(self, encode: Encode) -> td.Distribution:
        weights = td.Categorical(logits=self.logits, validate_args=False)
        return td.MixtureSameFamily(weights, normals(self.loc, self.log_scale), validate_args=False)


class VampPrior(Prior):
    """The variational mixture of posteriors: Tomczak & Welling (2018), `p(z) = (1/K) sum_k q(z|u_k)`.

    Each pseudo-input u_k is the sigmoid of a learnt tensor. It therefore lies in (0, 1), as the encoder's inputs do,
    and its gradient does not vanish at a bound. Gradients of the prior also reach the encoder, which makes the
    mixture's components.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_pseudo_inputs: K; each costs an encoder's pass in every step, and once in an evaluation.

    Raises:
        ValueError: `num_pseudo_inputs` is below 1.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int], num_pseudo_inputs: int = 500) -> None:
        super().__init__(latent_shape, event_shape)
        check_count("prior.num_pseudo_inputs", num_pseudo_inputs)
        self.logits = nn.Parameter(torch.randn(num_pseudo_inputs, *event_shape))

    def forward(self, encode: Encode) -> td.Distribution:
        weights = td.Categorical(logits=self.logits.new_zeros(len(self.logits)), validate_args=False)
        return td.MixtureSameFamily(weights, encode(self.logits.sigmoid()), validate_args=False)


def normals(loc: Tensor, log_scale: Tensor) -> td.Independent:
    """Return independent normals over the last axis."""
    return td.Independent(td.Normal(loc, log_scale.exp() + MIN_SCALE, validate_args=False), 1, validate_args=False)
