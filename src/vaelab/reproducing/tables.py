"""Tables: several settings, each trained with several seeds, and numbers of each."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api import Run
from vaelab.evaluation.latent_usage import spread_of_mean
from vaelab.evaluation.paired import difference
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row

PER_EXAMPLE = ("log_likelihood", "elbo")


class Score(NamedTuple):
    """A number of one run.

    Attributes:
        value: the number.
        examples: for each test example that it comes from, the part of it that varies; None if the examples do not
            matter. An example that could not be evaluated is NaN.
    """

    value: float
    examples: NDArray[np.float64] | None = None


Scores = dict[str, Score]


class Table(Reproduction):
    """Trains each setting with several seeds, and measures each run.

    A budget has `overrides` of all runs, `seeds`, the `settings` that it can pay for, and `evaluate`, for each
    evaluation the overrides of `vaelab.evaluate`.

    Args:
        title, source, budgets, notes: see `Reproduction`.
        quantities: what to measure of a run, a key of `measured`, and its title.
        settings: of each setting the `overrides`, and for each quantity what is known, the arguments of `Row`.
        contrasts: differences between two settings by their titles: `of`, `minus`, `quantity`, and what is known.
    """

    def __init__(
        self,
        title: str,
        source: str,
        budgets: Mapping[str, Any],
        quantities: Mapping[str, str],
        settings: Mapping[str, Any],
        contrasts: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(title, source, budgets, notes)
        self.quantities, self.settings, self.contrasts = quantities, settings, contrasts or {}

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        chosen = {name: self.settings[name]["overrides"] for name in budget["settings"]}
        trained = lab.sweep("", chosen, budget["overrides"], budget["seeds"])
        found = {name: [self.measured(lab, run, budget) for run in runs] for name, runs in trained.items()}
        rows = []
        for name, known in self.settings.items():
            for key, title in self.quantities.items():
                scores = [each[key] for each in found.get(name, [])]
                values, error = [score.value for score in scores], error_of_examples(examples_of(scores))
                rows.append(Row(name, title, values, error, **known.get(key) or {}))
        for title, known in self.contrasts.items():
            sides = [[each[known["quantity"]] for each in found.get(known[side], [])] for side in ("of", "minus")]
            about = {key: value for key, value in known.items() if key not in ("of", "minus", "quantity")}
            rows.append(Row(title, self.quantities[known["quantity"]], **contrast(*sides), **about))
        return rows

    def measured(self, lab: Lab, run: Run, budget: Mapping[str, Any]) -> Scores:
        """Return the numbers of a run by their keys: those of each evaluation NAME as `log_likelihood_NAME` and so on.

        They are log p(x), the ELBO, bits per dimension of log p(x), and active units.
        """
        scores = {}
        for name, overrides in budget["evaluate"].items():
            metrics, columns = lab.evaluate(run, overrides)
            examples = {key: columns[key].double().numpy() for key in PER_EXAMPLE}
            scores |= {f"{key}_{name}": Score(metrics[key], values) for key, values in examples.items()}
            if (bits := metrics.get("log_likelihood_bits_per_dim")) is not None:
                a_nat = bits / metrics["log_likelihood"]
                scores[f"bits_per_dim_{name}"] = Score(bits, a_nat * examples["log_likelihood"])
            scores |= {key: Score(metrics[key]) for key in ("active_units",) if key in metrics}
        return scores


def examples_of(scores: Sequence[Score]) -> list[NDArray[np.float64]]:
    """Return the examples of each seed, if they matter."""
    return [score.examples for score in scores if score.examples is not None]


def error_of_examples(examples: Sequence[NDArray[np.float64]]) -> float:
    """Return the standard error of a mean over seeds that comes from the choice of test examples; 0 without examples.

    Args:
        examples: for each seed, the numbers of the same examples; those with a NaN are left out.
    """
    if not examples:
        return 0.0
    means = np.mean(examples, axis=0)
    return spread_of_mean(torch.from_numpy(means[~np.isnan(means)]))


def contrast(first: Sequence[Score], second: Sequence[Score]) -> dict[str, Any]:
    """Return the difference of two settings as arguments of `Row`, with an interval over seeds and paired examples."""
    if not first or not second:
        return {"values": []}
    values = [[score.value for score in side] for side in (first, second)]
    mean = statistics.fmean(values[0]) - statistics.fmean(values[1])
    variances = None
    if min(map(len, values)) > 1:
        variances = statistics.variance(values[0]), statistics.variance(values[1])
    # the values may have other parts than those that the examples make vary
    found = replace(difference(examples_of(first), examples_of(second)), mean=mean, variances=variances)
    return {"values": [mean], "half_width": found.half_width}
