"""Compare settings in pairs, example by example, and say in a sentence which is better and how sure that is."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaelab.errors import RunFolderError
from vaelab.evaluation.paired import Difference, difference
from vaelab.reporting.groups import Group, Setting
from vaelab.security.redaction import presentable

Outcome = Literal["better", "worse", "open", "missing"]
Scores = list[NDArray[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """The difference between two settings of a group, or why there is none.

    Attributes:
        better, worse: the setting that validation prefers, and the other one.
        difference: the test score of `better` minus that of `worse`, in nats.
        reason: why the two cannot be compared; empty if they can.
    """

    better: Setting
    worse: Setting
    difference: Difference | None
    reason: str = ""

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
        """The difference with half of its 95 % interval, such as `+12.30 ± 1.10`."""
        return "" if self.difference is None else f"{self.difference.mean:+.2f} ± {self.difference.half_width:.2f}"

    @property
    def verdict(self) -> str:
        """Say whether `better` is better on the test, in a few words."""
        words = {"missing": f"not compared: {self.reason}", "open": f"cannot be told apart: {self.size} nats"}
        return words.get(self.outcome, f"{self.outcome} by {self.size.lstrip('+-')} nats")

    @property
    def advice(self) -> str:
        """Say which more seeds or examples would tell the two apart; empty if they are told apart over seeds."""
        found = self.difference
        if found is None:
            return ""
        if found.of_seeds is None:
            return "this compares these trained models, not their settings: train each setting with two or more seeds"
        if found.tells:
            return ""
        enough = [("seeds of each", found.enough_seeds()), ("test examples", found.enough_examples())]
        told = [f"about {n:,} {what}" for what, n in enough if n is not None]
        who = " or ".join(told) or "neither more seeds nor more examples"
        return f"{who} would tell a difference of {abs(found.mean):.2g} nats"

    def as_data(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        found, numbers = self.difference, {}
        if found is not None:
            numbers = {"difference": found.mean, "half_width": found.half_width, "standard_error": found.error}
            numbers |= {"seeds": found.seeds, "examples": found.examples, "over_seeds": found.of_seeds is not None}
        return {"verdict": self.verdict, "advice": self.advice, **numbers}


def scores_of(setting: Setting, by: str) -> Scores:
    """Return the test scores of each example, for each seed of a setting.

    Raises:
        RunFolderError: a run folder does not store them.
    """
    return [job.result.of_examples(by).numpy() for job in setting.jobs]


def compare(a: Setting, b: Setting, by: str) -> Comparison:
    """Compare two settings of a group, the one that validation prefers first."""
    better, worse = sorted((a, b), key=lambda setting: setting.rank)
    return _compared(better, worse, by, *(_scores_or_reason(setting, by) for setting in (better, worse)))


def to_the_best(group: Group) -> list[Comparison]:
    """Compare the best setting of a group with each other one."""
    if len(group.settings) < 2:
        return []
    best, *others = group.settings
    scores = _scores_or_reason(best, group.by)
    return [_compared(best, other, group.by, scores, _scores_or_reason(other, group.by)) for other in others]


def _scores_or_reason(setting: Setting, by: str) -> Scores | str:
    try:
        return scores_of(setting, by)
    except RunFolderError as error:
        return presentable(str(error))


def _compared(better: Setting, worse: Setting, by: str, a: Scores | str, b: Scores | str) -> Comparison:
    for scores in (a, b):
        if isinstance(scores, str):
            return Comparison(better, worse, None, scores)
    try:
        return Comparison(better, worse, difference(a, b))
    except ValueError as error:
        return Comparison(better, worse, None, str(error))
