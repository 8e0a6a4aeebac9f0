"""Tables: several settings, each trained with several seeds, and numbers of each."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.api import Run, Runs
from vaelab.evaluation.latent_usage import spread_of_mean
from vaelab.evaluation.paired import difference
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.results import Row
from vaelab.runs.evaluating.complete import Evaluated

PER_EXAMPLE = ("log_likelihood", "elbo")
IN_BITS = "log_likelihood_bits_per_dim"


class Score(NamedTuple):
    """A number of one run.

    Attributes:
        value: the number.
        examples: the part of the number that comes from each test example; None if the examples do not matter. An
            example that could not be evaluated is NaN.
    """

    value: float
    examples: NDArray[np.float64] | None = None


Scores = dict[str, Score]


class Table(Reproduction):
    """Trains each setting with several seeds, and measures each run.

    A budget has `overrides` of all runs, `seeds`, the `settings` that it can pay for, `evaluate`, for each evaluation
    the overrides of `vaelab.evaluate`, and the `quantities` to show, if not all.

    Args:
        title, source, budgets, notes: see `Reproduction`.
        quantities: titles of the numbers, by the keys that `measured` returns.
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
        found = self.measured(lab, trained, budget)
        quantities = {key: self.quantities[key] for key in budget.get("quantities", self.quantities)}
        rows = []
        for name, known in self.settings.items():
            for key, title in quantities.items():
                scores = [each[key] for each in found.get(name, [])]
                values, error = [score.value for score in scores], error_of_examples(examples_of(scores))
                rows.append(Row(name, title, values, error, **known.get(key) or {}))
        for title, known in self.contrasts.items():
            sides = [[each[known["quantity"]] for each in found.get(known[side], [])] for side in ("of", "minus")]
            about = {key: value for key, value in known.items() if key not in ("of", "minus", "quantity")}
            rows.append(Row(title, self.quantities[known["quantity"]], **contrast(*sides), **about))
        return rows

    def measured(self, lab: Lab, trained: Mapping[str, Runs], budget: Mapping[str, Any]) -> dict[str, list[Scores]]:
        """Return the numbers of each setting's runs by their keys.

        Those of an evaluation NAME are `log_likelihood_NAME`, `elbo_NAME`, and, unless data are binary,
        `bits_per_dim_NAME` of log p(x).
        """
        found: dict[str, list[Scores]] = {setting: [{} for _ in runs] for setting, runs in trained.items()}
        for name, overrides in budget["evaluate"].items():
            for setting, several in lab.evaluate(trained, overrides).items():
                for run, scores, evaluated in zip(trained[setting], found[setting], several, strict=True):
                    scores |= {f"{key}_{name}": score_of(evaluated, key) for key in PER_EXAMPLE}
                    if IN_BITS in evaluated:
                        scores[f"bits_per_dim_{name}"] = bits_of(run, evaluated)
        return found


def score_of(evaluated: Evaluated, key: str) -> Score:
    """Return a metric with the values of each example."""
    return Score(evaluated[key], evaluated.examples[key].double().numpy())


def bits_of(run: Run, evaluated: Evaluated) -> Score:
    """Return bits per dimension of log p(x), with the part of them that varies from example to example."""
    dimensions = math.prod(run.record["data"]["event_shape"])
    values = evaluated.examples["log_likelihood"].double().numpy()
    return Score(evaluated[IN_BITS], -values / (dimensions * math.log(2)))


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
