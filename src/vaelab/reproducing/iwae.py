"""Importance weighted autoencoders: Burda, Grosse & Salakhutdinov (2016), table 1."""

from collections.abc import Mapping
from typing import Any

import torch

from vaelab.api import Run
from vaelab.evaluation.latent_usage import ACTIVE
from vaelab.randomness import seed_draws
from vaelab.reproducing.tables import Measured, Table

NUM_TRAINING = 500  # training examples over which the authors count active units


class ImportanceWeighted(Table):
    """Table 1: `nll` of all test examples, `nll_of_first` of those that are evaluated with many samples, and `active`.

    The NLL of all examples is minus their ELBO, and minus the gap between log p(x) and ELBO of the first ones. The gap
    varies less from example to example than either number.
    """

    def measured(self, run: Run, budget: Mapping[str, Any]) -> Measured:
        found = run.evaluate(budget["evaluate"]["importance"])
        nll = {"nll_of_first": -found["log_likelihood"], "nll": -run.metrics["test/elbo"] - found["gain"]}
        active = {"active": active_units(run)} if "active" in self.quantities else {}
        return nll | {"nll_error": found["gain_error"]} | active


@torch.no_grad()
def active_units(run: Run) -> int:
    """Count the latent dimensions whose posterior mean varies by more than 0.01 over the first training examples."""
    seed_draws("cpu", "pixels", 0)
    x = run.data.draw("train", range(min(NUM_TRAINING, run.data.num_train)))
    return int((run.vae.encode(x).mean.var(0) > ACTIVE).sum())
