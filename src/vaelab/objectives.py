"""Objectives: what training minimises, per example and in nats. The only place where the KL is decided."""

from dataclasses import dataclass

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.conditional import VAE, Image

PerExample = Float[Tensor, " batch"]


@dataclass
class Terms:
    """What an objective says of each example, in nats; a mean over examples is the caller's.

    Attributes:
        elbo: the evidence lower bound; higher is better, and always the true bound whatever the loss.
        reconstruction: E_q[log p(x|z)].
        kl: KL(q(z|x) || p(z)), so that elbo = reconstruction - kl.
        loss: what to minimise.
    """

    elbo: PerExample
    reconstruction: PerExample
    kl: PerExample
    loss: PerExample


def kl_divergence(
    q: td.Distribution, p: td.Distribution, z: Float[Tensor, "*samples latent_dim"], closed_form: bool = True
) -> Float[Tensor, "*batch"]:
    """KL(q || p) in nats: in closed form where `torch.distributions` has it, else from the samples `z` of q.

    The Monte Carlo estimate is the mean over samples (leading axes of `z`, if any) of log q(z) - log p(z): unbiased,
    and negative at times.
    """
    if closed_form:
        try:
            return td.kl_divergence(q, p)
        except NotImplementedError:
            pass
    return _mean_over_samples(q.log_prob(z) - p.log_prob(z), q.batch_shape)


def _mean_over_samples(values: Tensor, batch_shape: torch.Size) -> Tensor:
    samples = values.dim() - len(batch_shape)
    return values.mean(tuple(range(samples))) if samples else values


def kl_per_dimension(q: td.Distribution, p: td.Distribution) -> Float[Tensor, "*batch latent_dim"] | None:
    """KL of each latent dimension, in nats; they add up to `kl_divergence`. None unless both factorise."""
    if not (isinstance(q, td.Independent) and isinstance(p, td.Independent)):
        return None
    try:
        return td.kl_divergence(q.base_dist, p.base_dist)
    except NotImplementedError:
        return None


@dataclass
class ELBO:
    """The evidence lower bound, `L = E_q[log p(x|z)] - KL(q(z|x) || p(z))`: section 2.3 of Kingma & Welling (2014).

    The loss is `-(E_q[log p(x|z)] - beta KL)`; `beta` other than 1 (Higgins et al. 2017) changes the loss alone.

    Args:
        closed_form: the KL in closed form where there is one (estimator B of the paper), else from the samples (A).
        num_samples: samples of z per example.
        beta: weight of the KL in the loss.

    Raises:
        ValueError: `num_samples` below 1 or a negative `beta`.
    """

    closed_form: bool = True
    num_samples: int = 1
    beta: float = 1.0

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"objective.num_samples must be at least 1, found {self.num_samples}")
        if not self.beta >= 0:
            raise ValueError(f"objective.beta must be 0 or more, found {self.beta}")

    def __call__(self, vae: VAE, x: Image) -> Terms:
        q = vae.encode(x)
        z = q.rsample() if self.num_samples == 1 else q.rsample((self.num_samples,))  # no axis of one: it costs time
        reconstruction = _mean_over_samples(vae.decoder.log_prob(x, z), q.batch_shape)
        kl = kl_divergence(q, vae.prior(), z, self.closed_form)
        loss = (kl if self.beta == 1 else self.beta * kl) - reconstruction
        return Terms(elbo=reconstruction - kl, reconstruction=reconstruction, kl=kl, loss=loss)


@dataclass
class NormalWeightPrior:
    """-log p(theta) in nats for p(theta) = N(0, scale^2 I) on the weights of the generative model (decoder, prior).

    Added as `-log p(theta) / N` to the loss per example, N the number of training examples, it makes training maximum
    a posteriori: section 5 of Kingma & Welling (2014), where theta are the generative parameters. It never touches
    the bound. The constant of the density is left out.

    Raises:
        ValueError: a `scale` that is not positive.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"weight_prior.scale must be positive, found {self.scale}")

    def __call__(self, vae: VAE) -> Float[Tensor, ""]:
        parameters = nn.ModuleList([vae.decoder, vae.prior]).parameters()
        squares = [parameter.square().sum() for parameter in parameters]
        return torch.stack(squares).sum() / (2 * self.scale**2)
