"""Importance weighted autoencoders: Burda, Grosse & Salakhutdinov (2016), table 1."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from vaelab.api import Run, Runs
from vaelab.evaluation.latent_usage import ACTIVE
from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab
from vaelab.reproducing.tables import PER_EXAMPLE, Score, Scores, Table
from vaelab.runs.evaluating.complete import Evaluated

NUM_TRAINING = 500  # training examples over which the authors count active units


class ImportanceWeighted(Table):
    """Table 1: `nll` of all test examples, `nll_of_first` of those that are evaluated with many samples, and `active`.

    log p(x) of all examples is their ELBO, and the mean of log p(x) - ELBO over the first ones. That gap varies less
    from example to example than either number. The publication has the same test digits, so only the error of the gap
    counts: with n of N digits, that of a sample from a finite population, smaller by the factor sqrt(1 - n/N).
    """

    def measured(self, lab: Lab, trained: Mapping[str, Runs], budget: Mapping[str, Any]) -> dict[str, list[Scores]]:
        found = lab.evaluate(trained, budget["evaluate"]["importance"])
        return {name: list(map(self.scores, runs, found[name])) for name, runs in trained.items()}

    def scores(self, run: Run, evaluated: Evaluated) -> Scores:
        """Return the numbers of a run."""
        log_likelihood, elbo = (evaluated.examples[key].double().numpy() for key in PER_EXAMPLE)
        left_out = 1 - len(elbo) / run.record["data"]["sizes"]["test"]
        gap = (elbo - log_likelihood) * math.sqrt(left_out)  # 0 if all digits were evaluated
        scores = {"nll": Score(-run.metrics["test/elbo"] - evaluated["gain"], gap)}
        scores["nll_of_first"] = Score(-evaluated["log_likelihood"])  # others have evaluated the same examples
        if "active" in self.quantities:
            scores["active"] = Score(active_units(run))
        return scores


@torch.no_grad()
def active_units(run: Run) -> int:
    """Count the latent dimensions whose posterior mean varies by more than 0.01 over the first training examples."""
    seed_draws("cpu", "pixels", 0)
    x = run.data.draw("train", range(min(NUM_TRAINING, run.data.num_train)))
    return int((run.vae.encode(x).mean.var(0) > ACTIVE).sum())
