"""Heads of discrete latents, for encoders: relaxed in training, discrete in evaluation."""

import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.errors import check_groups, check_positive
from vaelab.heads.base import Features, Head
from vaelab.networks import Network


class RelaxedBernoulli(Head):
    """Independent Bernoulli latents, z_i in {0, 1}: Maddison, Mnih & Teh (2017); Jang, Gu & Poole (2017).

    In evaluation, z is discrete. In training, it is a real number y_i whose sigmoid, which the decoder gets, is nearly
    0 or 1. `vaelab.priors.Bernoulli` is relaxed alike, so what is trained is a lower bound of the relaxed model, and
    what is reported is one of the discrete model; see `vaelab.distributions.bernoullis`.

    Args:
        network: the network before the head.
        temperature: of the relaxation. Low ones are nearer to the discrete model, but their gradient has more noise.

    Raises:
        ValueError: `temperature` is not positive.
    """

    discrete = True

    def __init__(self, network: Network, temperature: float = 0.5) -> None:
        super().__init__(network)
        check_positive("temperature", temperature)
        self.temperature = temperature
        self.logits = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        return vd.bernoullis(self.logits(features), self.temperature, relaxed=self.training)

    def as_context(self, event: Tensor) -> Tensor:
        return event.sigmoid() if self.training else event


class RelaxedCategorical(Head):
    """Independent categorical latents as one-hot vectors in a row, with `num_categories` elements each.

    As `RelaxedBernoulli`, but in training the decoder gets the exponential of y, which sums to 1 in each vector; see
    `vaelab.distributions.categoricals`. Never add the KL of categoricals to relaxed samples: that bounds nothing.

    Args:
        network: the network before the head.
        num_categories: K; `latent_dim` is K times the number of categorical variables.
        temperature: of the relaxation.

    Raises:
        ValueError: `num_categories` is below 2 or does not divide the size of the event, or `temperature` is not
            positive.
    """

    discrete = True

    def __init__(self, network: Network, num_categories: int = 10, temperature: float = 0.5) -> None:
        super().__init__(network)
        check_groups("num_categories", num_categories, self.event_shape[0])
        check_positive("temperature", temperature)
        self.num_categories, self.temperature = num_categories, temperature
        self.logits = network.output_layer()

    def forward(self, features: Features) -> td.Distribution:
        logits = self.logits(features).unflatten(-1, (-1, self.num_categories))
        return vd.categoricals(logits, self.temperature, relaxed=self.training)

    def as_context(self, event: Tensor) -> Tensor:
        return event.exp() if self.training else event
