"""Objectives: what training minimises, per example and in nats. The only place where the KL is decided."""

from dataclasses import dataclass

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor

pass


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


TERMS = ("elbo", "reconstruction", "kl", "loss")
