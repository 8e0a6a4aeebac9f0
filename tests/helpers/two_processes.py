"""Training that each of two processes does, in ways that one alone can repeat."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from tests.helpers.training import fit
from vaelab.objectives import ELBO, Terms
from vaelab.training import VAEModule
from vaelab.vae import VAE

# 103 examples make 13 batches and a last one of 99, so that no two shares are of one size
LINE = ("data.binarize=threshold", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01", "batch_size=103")
CASES = {
    "clipped": ("gradient_clip=norm", "gradient_clip.max_norm=1", "steps_per_call=4", "weight_prior=normal"),
    "plateau": ("trainer.max_epochs=3", "lr_schedule=plateau", "lr_schedule.scheduler.patience=0"),
    # shares of 3 and 2, each with a mean square of its own
    "optimal scale": ("trainer.max_steps=40", "decoder=gaussian_optimal", "optimizer.lr=0.0001", "batch_size=5"),
}


class WithoutNoise(ELBO):
    """A bound without noise, so that the number of processes draws no other."""

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        q = vae.encode(x)
        reconstruction = vae.log_likelihood(x, q.mean)
        kl = kl_divergence(q, vae.latent_prior())
        return Terms(kl - reconstruction, {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl})


def without_noise(module: VAEModule) -> None:
    """Take the noise out of training and of validation."""
    objective = module.objective = WithoutNoise()
    module.terms_of = lambda _, x: objective(module.vae, x, torch.tensor(0))

    def dequantise_at_the_middle() -> None:
        if module.data.pixels == "unit":
            module.data.noise = lambda levels, *_: torch.full(levels.shape, 0.5)

    module.on_fit_start = dequantise_at_the_middle


def train(*overrides: str) -> dict[str, Any]:
    """Train; return weights, counts and what this process reported."""
    fitted = fit(*LINE, *overrides, prepare=without_noise)
    weights = {name: value.clone() for name, value in fitted.state.items()}
    counts = (fitted.module.steps, fitted.module.samples_seen, fitted.trainer.global_step)
    return {"weights": weights, "counts": counts, "told": fitted.recorder.told}


def train_all() -> dict[str, Any]:
    """Train each case in two processes."""
    return {name: train(*overrides, "devices=2") for name, overrides in CASES.items()}
