"""Priors of discrete latents: relaxed in training, discrete in evaluation."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor, nn

import vaelab.distributions as vd
from vaelab.errors import check_groups, check_positive
from vaelab.priors.base import Encode, Prior


class Discrete(Prior):
    """Base class of the priors of discrete latents. Their logits begin as zeros, so that all values are equally likely.

    Args:
        latent_shape, event_shape: as for `Prior`.
        temperature: of the relaxation in training; it need not be that of the encoder.
        learned: whether the logits are parameters.
        logits_shape: the shape of the logits.

    Raises:
        ValueError: `temperature` is not positive.
    """

    logits: Tensor

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        temperature: float,
        learned: bool,
        logits_shape: Sequence[int],
    ) -> None:
        super().__init__(latent_shape, event_shape)
        check_positive("prior.temperature", temperature)
        self.temperature = temperature
        logits = torch.zeros(*logits_shape)
        if learned:
            self.logits = nn.Parameter(logits)
        else:
            self.register_buffer("logits", logits, persistent=False)

    @torch.no_grad()
    def fit(self, encode: Encode, z: Tensor) -> None:
        """Take the smoothed shares of the values of z, whose unsmoothed ones maximise the likelihood.

        Each value is counted half a time more than it was seen, because one never seen would get an infinite logit.
        """
        self.logits.copy_(self.logits_of((z.sum(0) + 0.5) / (len(z) + 1)))

    def logits_of(self, share: Tensor) -> Tensor:
        """Return logits whose probabilities are these shares, or proportional to them, `[*latent_shape]`."""
        raise NotImplementedError


class Bernoulli(Discrete):
    """The prior of `vaelab.heads.RelaxedBernoulli`: `P(z) = prod_i p_i^z_i (1 - p_i)^(1 - z_i)`, p_i = sigmoid(l_i).

    The logits l are zeros, so that each z_i is 0 or 1 with probability 1/2, or begin there and are learnt.

    Args:
        latent_shape, event_shape: as for `Prior`.
        temperature: of the relaxation in training; it need not be that of the encoder.
        learned: whether to learn the logits.

    Raises:
        ValueError: `temperature` is not positive.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        temperature: float = 0.5,
        learned: bool = False,
    ) -> None:
        super().__init__(latent_shape, event_shape, temperature, learned, latent_shape)

    def forward(self, encode: Encode) -> td.Distribution:
        return vd.bernoullis(self.logits, self.temperature, relaxed=self.training)

    def logits_of(self, share: Tensor) -> Tensor:
        return share.logit()


class Categorical(Discrete):
    """The prior of `vaelab.heads.RelaxedCategorical`: `P(z) = prod_n softmax(l_n)[z_n]` for one-hot vectors z_n.

    The logits l are zeros, so that the `num_categories` categories are equally likely, or begin there and are learnt.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_categories: as in the encoder.
        temperature, learned: as for `Bernoulli`.

    Raises:
        ValueError: `num_categories` is below 2 or does not divide `latent_dim`, or `temperature` is not positive.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        num_categories: int = 10,
        temperature: float = 0.5,
        learned: bool = False,
    ) -> None:
        check_groups("prior.num_categories", num_categories, latent_shape[0])
        logits_shape = (latent_shape[0] // num_categories, num_categories)
        super().__init__(latent_shape, event_shape, temperature, learned, logits_shape)

    def forward(self, encode: Encode) -> td.Distribution:
        return vd.categoricals(self.logits, self.temperature, relaxed=self.training)

    def logits_of(self, share: Tensor) -> Tensor:
        return share.log().view_as(self.logits)
