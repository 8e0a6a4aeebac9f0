"""A program that each of two processes runs: it trains in ways that one alone can repeat, and saves what came out.

`python -m torch.distributed.run --nproc-per-node=2 -m tests.helpers.two_processes FILE`
"""

import sys
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from tests.helpers.training import Recorder, configured
from vaelab.objectives import ELBO, Terms
from vaelab.runs.build import build
from vaelab.vae import VAE

# 103 examples make 13 batches and a last one of 99, so that no two shares are of one size
BASE = ("data.binarize=threshold", "batch_size=103", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01")
CASES = {
    "one step": ("trainer.max_steps=1",),
    "an epoch": ("trainer.max_epochs=1", "steps_per_call=4"),
    "clipped": ("trainer.max_epochs=1", "gradient_clip=norm", "gradient_clip.max_norm=1"),
    "cut": ("trainer.max_epochs=1", "gradient_clip=value", "gradient_clip.clip_value=0.01"),
    "weight prior": ("trainer.max_epochs=1", "weight_prior=normal", "weight_prior.scale=0.1"),
    "plateau": (
        *("trainer.max_epochs=3", "lr_schedule=plateau"),
        *("lr_schedule.scheduler.patience=0", "lr_schedule.scheduler.threshold=1000"),  # no bound rises so far
    ),
    "optimal scale": (
        *("trainer.max_steps=40", "decoder=gaussian_optimal"),
        *("optimizer.lr=0.0001", "batch_size=5"),  # shares of 3 and 2, each with a mean square of its own
    ),
}


def at_the_posterior_mean(vae: VAE, x: Tensor) -> Terms:
    """A bound without noise, so that the number of processes draws no other."""
    q = vae.encode(x)
    reconstruction = vae.decoder.log_prob(x, q.mean)
    kl = kl_divergence(q, vae.latent_prior())
    return Terms(kl - reconstruction, {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl})


class WithoutNoise(ELBO):
    """A bound without noise, so that the number of processes draws no other."""

    def forward(self, vae: VAE, x: Tensor, step: Tensor) -> Terms:
        return at_the_posterior_mean(vae, x)


def train(overrides: tuple[str, ...], world_size: int) -> dict[str, Any]:
    """Trains in `world_size` processes; returns weights, counts and what rank 0 reported."""
    cfg = configured(*BASE, *overrides)
    data, module = build(cfg)
    if data.pixels == "unit":
        data.noise = lambda levels, *_: torch.full(levels.shape, 0.5)
    module.objective = WithoutNoise()
    module.terms_of = lambda objective, x: at_the_posterior_mean(module.vae, x)
    parallel = {"devices": world_size, "strategy": "ddp" if world_size > 1 else "auto", "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"num_sanity_val_steps": 0, "log_every_n_steps": 1}
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=cfg.trainer.max_epochs, logger=recorder, use_distributed_sampler=False, **parallel, **quiet
    )
    trainer.fit(module, data)
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    counts = {"steps": module.steps, "samples_seen": module.samples_seen, "global_step": trainer.global_step}
    return {"weights": weights, "counts": counts, "told": recorder.told}


if __name__ == "__main__":
    outcome = {name: train(overrides, 2) for name, overrides in CASES.items()}
    outcome["rank"] = torch.distributed.get_rank()
    torch.save(outcome, f"{sys.argv[1]}.{torch.distributed.get_rank()}")
