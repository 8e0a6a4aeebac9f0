"""The evidence lower bound."""

from collections.abc import Callable
from typing import NamedTuple

import torch.distributions as td
from torch import Tensor

from vaelab.distributions import draw
from vaelab.metric import Metric
from vaelab.objectives.base import (
    Objective,
    PerExample,
    Terms,
    at_least_0,
    at_least_1,
    kl_divergence,
    mean_over_samples,
)
from vaelab.vae import VAE, Image


class Parts(NamedTuple):
    """What an evidence lower bound is made of."""

    q: td.Distribution  # q(z|x)
    p: td.Distribution  # p(z)
    z: Tensor  # samples of q, `[*samples, batch, latent_dim]`
    reconstruction: PerExample  # E_q[log p(x|z)]
    kl: PerExample  # KL(q(z|x) || p(z))


class Penalised(Objective):
    """Base class of the objectives whose loss is `penalty - E_q[log p(x|z)]`; the penalty of the ELBO is the KL.

    Args:
        closed_form: compute the KL in closed form if there is one, not from samples.
        num_samples: samples of z per example.

    Raises:
        ValueError: `num_samples` is below 1.
    """

    metrics = (
        Metric("elbo", "ELBO", better="higher", meaning="the evidence lower bound of log p(x), whatever is trained"),
        Metric("reconstruction", "reconstruction", better="higher", meaning="E_q[log p(x|z)]"),
        Metric("kl", "KL", meaning="KL(q(z|x) || p(z)), so that elbo = reconstruction - kl"),
    )

    def __init__(self, closed_form: bool = True, num_samples: int = 1) -> None:
        super().__init__()
        at_least_1(num_samples=num_samples)
        self.closed_form = closed_form
        self.num_samples = num_samples

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        q, p = vae.encode(x), vae.latent_prior()
        z, log_q = draw(q, () if self.num_samples == 1 else (self.num_samples,))  # an axis of size 1 would be slower
        reconstruction = mean_over_samples(vae.log_likelihood(x, z), q.batch_shape)
        kl = kl_divergence(q, p, z, log_q, self.closed_form)
        penalty = self.penalty(Parts(q, p, z, reconstruction, kl), step)
        metrics = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return Terms(penalty - reconstruction, metrics)

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        """Return what takes the place of the KL in the loss, in nats."""
        raise NotImplementedError


class ELBO(Penalised):
    """The evidence lower bound: equation 3, in section 2.2, of Kingma & Welling (2014).

    `L = E_q[log p(x|z)] - KL(q(z|x) || p(z))`. The loss is `-(E_q[log p(x|z)] - beta KL)`. A beta other than 1 (Higgins
    et al. 2017) changes the loss, but not the reported metrics.

    Args:
        closed_form: compute the KL in closed form if there is one (estimator B of the paper, equation 7), not from
            samples (A, equation 6).
        num_samples: samples of z per example.
        beta: weight of the KL in the loss: a number, or a schedule such as `LinearWarmUp`, which maps the number of
            optimiser steps taken so far to a number.

    Raises:
        ValueError: `num_samples` is below 1, or `beta` is negative.

    Examples:
        >>> import torch
        >>> from vaelab import heads, networks, priors
        >>> from vaelab.vae import Conditional
        >>> z, x = (2,), (1, 28, 28)
        >>> encoder = Conditional(x, z, networks.MLP, heads.DiagonalGaussian)
        >>> decoder = Conditional(z, x, networks.MLP, heads.Bernoulli)
        >>> vae = VAE(encoder, decoder, priors.StandardNormal(z, x))
        >>> ELBO()(vae, torch.ones(5, *x), step=torch.tensor(0)).loss.shape
        torch.Size([5])
    """

    def __init__(
        self, closed_form: bool = True, num_samples: int = 1, beta: float | Callable[[Tensor], Tensor] = 1.0
    ) -> None:
        super().__init__(closed_form, num_samples)
        if not callable(beta):
            at_least_0(beta=beta)
        self.beta = beta

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        beta = self.beta(step) if callable(self.beta) else self.beta
        return parts.kl if not isinstance(beta, Tensor) and beta == 1 else beta * parts.kl
