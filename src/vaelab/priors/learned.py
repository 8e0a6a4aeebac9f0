"""Priors whose parameters are learnt."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import nn

from vaelab.priors.base import Encode, Prior

MIN_SCALE = 1e-3  # floor of a standard deviation, because a density has no upper bound as it goes to 0


class LearnedNormal(Prior):
    """The prior p(z) = N(mu, diag(sigma^2)), with learnt mu and sigma; it begins as N(0, I)."""

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = nn.Parameter(torch.zeros(*latent_shape))
        self.log_scale = nn.Parameter(torch.zeros(*latent_shape))

    def forward(self, encode: Encode) -> td.Distribution:
        normal = td.Normal(self.loc, self.log_scale.exp() + MIN_SCALE, validate_args=False)
        return td.Independent(normal, self.loc.dim(), validate_args=False)


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
        self.logits = nn.Parameter(torch.zeros(at_least_1("num_components", num_components)))
        self.loc = nn.Parameter(torch.randn(num_components, *latent_shape))
        self.log_scale = nn.Parameter(torch.zeros(num_components, *latent_shape))

    def forward(self, encode: Encode) -> td.Distribution:
        normal = td.Normal(self.loc, self.log_scale.exp() + MIN_SCALE, validate_args=False)
        components = td.Independent(normal, len(self.latent_shape), validate_args=False)
        weights = td.Categorical(logits=self.logits, validate_args=False)
        return td.MixtureSameFamily(weights, components, validate_args=False)


class VampPrior(Prior):
    """The variational mixture of posteriors: Tomczak & Welling (2018), `p(z) = (1/K) sum_k q(z|u_k)`.

    The pseudo-inputs u_k are learnt. They are sigmoids, so that they lie in (0, 1) as the encoder's inputs do, and no
    gradient vanishes at a bound. The encoder learns through the prior too.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_pseudo_inputs: K; each costs an encoder's pass in every step, and once in an evaluation.

    Raises:
        ValueError: `num_pseudo_inputs` is below 1.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int], num_pseudo_inputs: int = 500) -> None:
        super().__init__(latent_shape, event_shape)
        count = at_least_1("num_pseudo_inputs", num_pseudo_inputs)
        self.logits = nn.Parameter(torch.randn(count, *event_shape))

    def forward(self, encode: Encode) -> td.Distribution:
        weights = td.Categorical(logits=self.logits.new_zeros(len(self.logits)), validate_args=False)
        return td.MixtureSameFamily(weights, encode(self.logits.sigmoid()), validate_args=False)


def at_least_1(name: str, value: int) -> int:
    """Return the argument of a prior. Refuse one that is not a whole number of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"prior.{name} must be a whole number of at least 1, found {value!r}")
    return value
