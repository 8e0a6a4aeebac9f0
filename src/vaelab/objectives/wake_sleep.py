"""The wake-sleep algorithm, and its form with importance weights."""

import torch
from torch import Tensor

from vaelab.distributions import sample
from vaelab.objectives.base import Objective, Terms, at_least_1, kl_divergence
from vaelab.objectives.elbo import ELBO
from vaelab.objectives.weighted import Weighted, Weights, log_mean_exp
from vaelab.vae import VAE, Image


class WakeSleep(Objective):
    """Wake-sleep: Hinton, Dayan, Frey & Neal (1995); the baseline in section 5 of Kingma & Welling (2014).

    In the wake phase theta descends `-log p(x, z)`, z ~ q(z|x). In the sleep phase phi descends `-log q(z'|x')`, with a
    z' ~ p(z) and an x' ~ p(x|z') drawn anew for each example. The samples carry no gradient, so q need not be
    reparametrised. The two losses are no gradient of one bound: the sleep phase minimises KL(p(z|x) || q(z|x)) over
    what the model draws, not over the data. Encoder and decoder must not share parameters.

    Args:
        num_samples: samples of z per example in the wake phase.

    Raises:
        ValueError: `num_samples` is below 1.
    """

    metrics = ELBO.metrics
    follows_samples = False

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__()
        at_least_1(num_samples=num_samples)
        self.num_samples = num_samples

    def refusal(self, vae: VAE) -> str | None:
        return refusal_of_shared(vae)

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        p = vae.latent_prior()
        with torch.no_grad():
            q = vae.encode(x)
            z = sample(q, (self.num_samples,))
            kl = kl_divergence(q, p, z)
            dreamt_z = p.sample((len(x),))
            dreamt_x = vae.decode(dreamt_z).sample()
        reconstruction, log_prior = vae.log_likelihood(x, z), p.log_prob(z)
        loss = -(reconstruction + log_prior).mean(0) - vae.encode(dreamt_x).log_prob(dreamt_z)
        reconstruction = reconstruction.mean(0)
        return Terms(loss, {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl})


class ReweightedWakeSleep(Weighted):
    """Reweighted wake-sleep with the wake-phase update of q: Bornschein & Bengio (2015); Le et al. (2020).

    With normalised weights v_k, theta descends `-sum_k v_k log p(x, z_k)`, and phi descends `-sum_k v_k log q(z_k|x)`.
    The samples carry no gradient, so q need not be reparametrised. Encoder and decoder must not share parameters.

    Args:
        num_samples: K, at least 2, because a single weight is always 1.
    """

    fewest = 2
    follows_samples = False

    def __init__(self, num_samples: int = 10) -> None:
        super().__init__(num_samples)

    def refusal(self, vae: VAE) -> str | None:
        return refusal_of_shared(vae)

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        q = vae.encode(x)
        with torch.no_grad():
            z = sample(q, (self.num_samples,))
        log_q, log_prior = q.log_prob(z), vae.latent_prior().log_prob(z)
        weights = Weights(z, vae.log_likelihood(x, z), log_q - log_prior)
        normalised = weights.log_w.detach().softmax(0)
        loss = -(normalised * (weights.reconstruction + log_prior + log_q)).sum(0)
        return self.terms(loss, log_mean_exp(weights.log_w), weights)


def refusal_of_shared(vae: VAE) -> str | None:
    """Refuse parameters that p(z) or p(x|z) shares with q, because both losses would reach them."""
    own = [parameter for parameter in vae.encoder.parameters() if parameter.requires_grad]
    generative = {id(parameter) for parameter in [*vae.decoder.parameters(), *vae.prior.parameters()]}
    with torch.enable_grad():  # a prior may call the encoder
        density = vae.latent_prior().log_prob(own[0].new_zeros(vae.latent_dim))
    calls = density.requires_grad and any(
        gradient is not None for gradient in torch.autograd.grad(density, own, allow_unused=True)
    )
    if calls or any(id(parameter) in generative for parameter in own):
        return "trains q and p by two losses, but they share parameters: type model=vae"
    return None
