"""Importance weighted autoencoders: Burda, Grosse & Salakhutdinov (2016), table 1."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vaelab.api import Run
from vaelab.evaluation.latent_usage import ACTIVE
from vaelab.randomness import seed_draws
from vaelab.reproducing.base import Lab
from vaelab.reproducing.tables import PER_EXAMPLE, Score, Scores, Table
from vaelab.runs.evaluating.complete import Evaluated

NUM_TRAINING = 500  # training examples over which the authors count active units


class ImportanceWeighted(Table):
    """Table 1: `nll` of all test examples, `nll_of_first` of those that are evaluated with many samples, and `active`.

    The NLL of all examples is minus their ELBO, and minus the gap between log p(x) and ELBO of the first ones. The gap
    varies less from example to example than either number. The publication has the same test digits, so only the gap's
    part counts as an error.
    """

    def measured(self, lab: Lab, runs: Sequence[Run], budget: Mapping[str, Any]) -> list[Scores]:
        evaluated = lab.evaluate(runs, budget["evaluate"]["importance"])
        return [self.scores(run, each) for run, each in zip(runs, evaluated, strict=True)]

    def scores(self, run: Run, evaluated: Evaluated) -> Scores:
        """Return the numbers of a run."""
        log_likelihood, elbo = (evaluated.examples[key].double().numpy() for key in PER_EXAMPLE)
        scores = {
            "nll": Score(-run.metrics["test/elbo"] - evaluated["gain"], elbo - log_likelihood),
            "nll_of_first": Score(-evaluated["log_likelihood"]),  # others have evaluated the same examples
        }
        return scores | ({"active": Score(active_units(run))} if "active" in self.quantities else {})


@torch.no_grad()
def active_units(run: Run) -> int:
    """Count the latent dimensions whose posterior mean varies by more than 0.01 over the first training examples."""
    seed_draws("cpu", "pixels", 0)
    x = run.data.draw("train", range(min(NUM_TRAINING, run.data.num_train)))
    return int((run.vae.encode(x).mean.var(0) > ACTIVE).sum())
