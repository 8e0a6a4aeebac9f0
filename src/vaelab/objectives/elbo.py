"""The evidence lower bound."""

from dataclasses import dataclass

from vaelab.objectives.base import Terms, _mean_over_samples, kl_divergence
from vaelab.vae import VAE, Image


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
