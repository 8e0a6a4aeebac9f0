"""Compare settings in pairs, example by example, and say in a sentence which is better and how sure that is."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaelab.errors import RunFolderError
from vaelab.evaluation.paired import Difference, difference
from vaelab.reporting.groups import Setting
from vaelab.reporting.settings import setting_of
from vaelab.security.redaction import presentable

OF_BOUNDS = "a difference of lower bounds is one of log p(x) only if the bounds are equally tight"
MOST_SEEDS, MOST_EXAMPLES = 1_000, 1_000_000  # advice to take more would help nobody
Outcome = Literal["better", "worse", "open", "missing"]


@dataclass(frozen=True)
class Comparison:
    """The difference between two settings of a group, or why there is none."""

    better: Setting  # the one that validation prefers
    worse: Setting
    by: str  # the metric
    difference: Difference | None  # the test score of `better` minus that of `worse`, in nats
    reason: str = ""  # why the two cannot be compared; empty if they can

    @property
    def outcome(self) -> Outcome:
        """Whether `better` is better or worse than `worse` on the test, or the interval holds 0, or there is none."""
        if self.difference is None:
            return "missing"
        if not self.difference.tells:
            return "open"
        return "better" if self.difference.mean > 0 else "worse"

    @property
    def size(self) -> str:
        """The size of the difference, with half of its 95 % interval, such as `12.30 ± 1.10`."""
        found = self.difference
        return "" if found is None else f"{abs(found.mean):.2f} ± {found.half_width:.2f}"

    @property
    def direction(self) -> str:
        """Whether the score of `worse` is higher or lower on the test, if there is a difference."""
        return "higher" if self.difference is not None and self.difference.mean < 0 else "lower"

    @property
    def verdict(self) -> str:
        """Say whether `better` is better on the test, in a few words."""
        open_words = f"cannot be told apart: the second is {self.size} nats {self.direction}"
        words = {"missing": f"not compared: {self.reason}", "open": open_words}
        return words.get(self.outcome, f"{self.outcome} by {self.size} nats")

    @property
    def scope(self) -> str:
        """Say that the difference is one of trained models, not of settings; empty if it is over seeds."""
        if self.difference is None or self.difference.variances is not None:
            return ""
        if setting_of(self.better.jobs[0].entry) == setting_of(self.worse.jobs[0].entry):
            return "this compares trained models of one setting, which differ in their seed"
        return "this compares these trained models, not their settings: train each setting with two or more seeds"

    @property
    def needed(self) -> str:
        """Say which more seeds or examples would tell the two apart; empty if they are told apart."""
        found = self.difference
        if found is None or found.tells:
            return ""
        seeds = None if found.variances is None else found.enough_seeds()
        enough = {"seeds of each": (seeds, MOST_SEEDS), "test examples": (found.enough_examples(), MOST_EXAMPLES)}
        told = " or ".join(f"about {n:,} {what}" for what, (n, most) in enough.items() if n is not None and n <= most)
        none = "not even" if found.variances is None else f"neither {MOST_SEEDS:,} seeds nor"
        none = f"{none} {MOST_EXAMPLES:,} test examples"
        return f"{told or none} would tell a difference of {abs(found.mean):.2g} nats"

    @property
    def advice(self) -> str:
        """Say what the difference is about, and what would tell more; empty if nothing is left to say."""
        return "; ".join(filter(None, [self.scope, self.needed]))

    def as_data(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        found, numbers = self.difference, {}
        if found is not None:
            numbers = {"difference": found.mean, "half_width": found.half_width, "standard_error": found.error}
            numbers |= {"seeds": found.seeds, "examples": found.examples, "over_seeds": found.variances is not None}
        names = {"metric": self.by, "setting": self.better.label, "against": self.worse.label}
        return {**names, "verdict": self.verdict, "advice": self.advice, **numbers}


@lru_cache(maxsize=32)
def scores_of(setting: Setting, by: str) -> list[NDArray[np.float64]]:
    """Return the test scores of each example, for each seed of a setting.

    Raises:
        RunFolderError: a run folder does not store them.
    """
    return [job.result.of_examples(by).numpy() for job in setting.jobs]


def compare(a: Setting, b: Setting, by: str) -> Comparison:
    """Compare two settings of a group, the one that validation prefers first."""
    better, worse = sorted((a, b), key=lambda setting: setting.rank)
    try:
        return Comparison(better, worse, by, difference(scores_of(better, by), scores_of(worse, by)))
    except (RunFolderError, ValueError) as error:
        return Comparison(better, worse, by, None, presentable(str(error)))
