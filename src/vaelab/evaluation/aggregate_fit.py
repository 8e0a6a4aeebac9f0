"""Fit a prior to the aggregate posterior of a trained model."""

import torch

from vaelab.data import ImageData
from vaelab.distributions import different_domains
from vaelab.priors import Prior
from vaelab.randomness import seed_draws
from vaelab.vae import VAE

NUM_SAMPLES = 50_000  # of z, at least; small data sets are drawn several times


def refusal(vae: VAE, prior: Prior) -> str | None:
    """Return why this prior cannot be fitted to the posteriors of this model; or None."""
    name = type(prior).__name__
    if not any(True for _ in prior.parameters()):
        return f"{name} has no parameters, so that there is nothing to fit"
    with torch.no_grad():
        found = different_domains(vae.encode(vae.blank()), prior(vae.encoder))
    if found:
        return f"{name} needs a latent with elements in {found[1]}, and those of q(z|x) lie in {found[0]}"
    return None


@torch.no_grad()
def fit_to_aggregate(prior: Prior, vae: VAE, data: ImageData, seed: int) -> None:
    """Fit a prior to samples of the aggregate posterior `q(z) = 1/N sum_n q(z|x_n)` of the training examples.

    To maximise the likelihood of the samples is to minimise `KL(q(z) || p(z))`. It also maximises the mean ELBO of
    these examples, because the prior enters the ELBO through this KL alone (Hoffman & Johnson 2016). Encoder and
    decoder do not change.

    Args:
        prior: the prior to fit.
        vae: the trained model.
        data: serves the training examples.
        seed: seeds the draws of z and the fit.
    """
    samples = []
    for again in range(-(-NUM_SAMPLES // data.num_train)):
        for block in data.blocks("train"):
            q = vae.encode(data.draw_block("train", block, again))
            seed_draws("cpu", "prior", seed, block.number, again)
            samples.append(q.sample())
    seed_draws("cpu", "prior", seed)
    prior.initialize(lambda count: vae.scaled(data.draw_some(count)))
    prior.fit(vae.encoder, torch.cat(samples))
