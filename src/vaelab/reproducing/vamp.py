"""The VampPrior: Tomczak & Welling (2018), on Frey Face."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributions as td

from vaelab.api import Run, Runs
from vaelab.distributions import Quantised, sample
from vaelab.distributions.logistic import Logistic
from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab
from vaelab.reproducing.tables import Score, Scores, Table

FLOOR = 1e-7  # what the authors add to a mass before they take its log


class Vamp(Table):
    """Bits per dimension of the best weights, and how the authors' masses differ from ours.

    `bits_per_dim_NAME` and `elbo_NAME` come from the evaluations NAME of the budget. `theirs` is by how many bits per
    dimension the authors' log-mass exceeds ours, at the same means and scales: their lowest and highest level do not
    get the mass beyond them, which makes it smaller, and no mass is below 1e-7, which makes it larger.
    """

    def measured(self, lab: Lab, trained: Mapping[str, Runs], budget: Mapping[str, Any]) -> dict[str, list[Scores]]:
        best = {name: runs.with_weights("best") for name, runs in trained.items()}
        found = super().measured(lab, best, budget)
        for name, runs in best.items():
            for run, scores in zip(runs, found[name], strict=True):
                scores["theirs"] = Score(excess_of_theirs(run))
        return found


@torch.no_grad()
def excess_of_theirs(run: Run) -> float:
    """Return the mean excess over the test data, in bits per dimension, with a sample of z for each example."""
    seed_draws("cpu", "evaluate", 0)
    x = run.data.draw("test", range(len(run.data.split["test"])))
    p = cast(td.Independent, run.vae.decode(sample(run.vae.encode(x))))
    masses = cast(Quantised, p.base_dist)
    difference = masses_without_ends(cast(Logistic, masses.pixels), x, masses.num_levels).log() - masses.log_prob(x)
    return difference.mean().item() / math.log(2)


def masses_without_ends(pixels: Logistic, levels: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Return the authors' masses, `sigmoid((x + 1/L - mu) / s) - sigmoid((x - mu) / s) + 1e-7` at x = level / L.

    Their mean mu is limited to 1 / (2L) .. 1 - 1 / (2L).
    """
    mean = pixels.loc.clamp(1 / (2 * num_levels), 1 - 1 / (2 * num_levels))
    below, above = ((levels + end) / num_levels for end in (0, 1))
    return ((above - mean) / pixels.scale).sigmoid() - ((below - mean) / pixels.scale).sigmoid() + FLOOR
