"""Compare estimates of log p(x) with quadrature, for a run of binary pixels with two latent dimensions.

    python -m vaelab.train data=mnist latent_dim=2 hidden_features=200 trainer.max_epochs=10
    python -m vaelab.evaluate run_dir=logs/runs/NAME limit=100 estimator=refined num_samples=1000   # and others
    python benchmarks/quadrature.py logs/runs/NAME [--step 0.025] [--limit 100]

`log p(x) = log sum_z p(x|z) p(z) step^2` over a grid on the square from -6 to 6 is exact to rounding if the step is
below the width of the posteriors, so the number of a grid of twice the step stands beside it. Then each evaluation of
these examples follows: its mean, how many examples it misses by more than 0.5 nats, and by how much at most.
"""

import argparse
import json
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from vaelab.runs.configuration import CONF
from vaelab.runs.evaluating.cache import load_columns
from vaelab.runs.evaluating.session import Evaluation
from vaelab.vae import VAE

PART = 10_000  # points of the grid at once


@torch.no_grad()
def quadrature(vae: VAE, x: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Return log p(x) of each example by grids of this step and of twice this step."""
    axis = torch.arange(-6, 6 + step / 2, step)
    grid = torch.cartesian_prod(axis, axis)
    prior, flat, joint = vae.latent_prior(), x.flatten(1), []
    for z in grid.split(PART):
        logits = vae.decode(z).base_dist.logits.flatten(1)  # type: ignore[attr-defined]
        log_likelihood = logits @ flat.T - torch.nn.functional.softplus(logits).sum(1, keepdim=True)
        joint.append(log_likelihood.double() + prior.log_prob(z).double().unsqueeze(1))
    table = torch.cat(joint).view(len(axis), len(axis), len(x))
    volume = 2 * torch.tensor(step, dtype=torch.float64).log()
    fine, coarse = (part.flatten(0, 1).logsumexp(0) for part in (table, table[::2, ::2]))
    return fine + volume, coarse + volume + torch.tensor(4.0).log()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--step", type=float, default=0.025)
    parser.add_argument("--limit", type=int, default=100)
    options = parser.parse_args()
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("evaluate", [f"run_dir={options.run_dir}", f"limit={options.limit}"])
    evaluation = Evaluation(cfg)
    vae, data = evaluation.module.vae.eval(), evaluation.data
    x = torch.cat([data.draw_block("test", block) for block in data.tested_blocks()])
    truth, coarse = quadrature(vae, x, options.step)
    print(f"quadrature: {truth.mean():.3f}; with twice the step: {coarse.mean():.3f}")
    for file in sorted((options.run_dir / "evaluations").glob("*.json")):
        key = json.loads(file.read_text())["comparability"]
        own = "fitted_prior" not in key and file.stem.startswith("test-last-")
        if own and (key["split"], key["examples"]) == ("test", options.limit) and len(key["estimators"]) == 1:
            gap = load_columns(file.with_suffix(".safetensors"))["log_likelihood"].double() - truth
            found = f"{(gap + truth).mean():.3f}, {int((gap.abs() > 0.5).sum())} off by more than 0.5"
            print(f"{key['estimators']}: {found}, at most by {gap.abs().max():.2f}")


if __name__ == "__main__":
    main()
