"""Priors of discrete latents: relaxed in training, discrete in evaluation."""

from collections.abc import Sequence

import torch
import torch.distributions as td

import vaelab.distributions as vd
from vaelab.errors import check_groups, check_positive
from vaelab.priors.base import Encode, Prior


class Bernoulli(Prior):
    """The prior of `vaelab.heads.RelaxedBernoulli`: z_i is 0 or 1 with probability 1/2 each.

    Args:
        latent_shape, event_shape: as for `Prior`.
        temperature: of the relaxation in training; it need not be that of the encoder.

    Raises:
        ValueError: `temperature` is not positive.
    """

    logits: torch.Tensor

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int], temperature: float = 0.5) -> None:
        super().__init__(latent_shape, event_shape)
        check_positive("prior.temperature", temperature)
        self.temperature = temperature
        self.register_buffer("logits", torch.zeros(*latent_shape), persistent=False)

    def forward(self, encode: Encode) -> td.Distribution:
        return vd.bernoullis(self.logits, self.temperature, relaxed=self.training)


class Categorical(Prior):
    """The prior of `vaelab.heads.RelaxedCategorical`: all of the `num_categories` categories are equally likely.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_categories: as in the encoder.
        temperature: of the relaxation in training; it need not be that of the encoder.

    Raises:
        ValueError: `num_categories` is below 2 or does not divide `latent_dim`, or `temperature` is not positive.
    """

    logits: torch.Tensor

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        num_categories: int = 10,
        temperature: float = 0.5,
    ) -> None:
        super().__init__(latent_shape, event_shape)
        check_groups("prior.num_categories", num_categories, latent_shape[0])
        check_positive("prior.temperature", temperature)
        self.temperature = temperature
        self.register_buffer("logits", torch.zeros(*latent_shape).unflatten(-1, (-1, num_categories)), persistent=False)

    def forward(self, encode: Encode) -> td.Distribution:
        return vd.categoricals(self.logits, self.temperature, relaxed=self.training)
