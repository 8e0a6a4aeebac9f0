"""Group the results that share a comparability key, and rank them within each group."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaelab.evaluation.comparability import Key
from vaelab.evaluation.declared import metric_of
from vaelab.reporting.reading import Entry, Result, as_text

KEY_LABELS = {  # parts of a comparability key, as the page names them
    **{"data": "data set", "data_seed": "data seed", "split": "split", "examples": "examples"},
    **{"pixels": "pixels", "binarize": "binarisation", "measure": "measure", "estimators": "estimator"},
    **{"dequantizations": "dequantisations"},
}


@dataclass(frozen=True)
class Ranked:
    """One result with its place in its group.

    Attributes:
        rank: 1 for the best; None if the result has no score.
        score: the value of the metric that ranks the group (higher is better); None if the result lacks it.
    """

    rank: int | None
    score: float | None
    entry: Entry
    result: Result


@dataclass(frozen=True)
class Group:
    """Results that share a comparability key, best first.

    Attributes:
        by: the metric that ranks them: `log_likelihood`, or `elbo` if no result has an estimate.
    """

    number: int
    key: Key
    by: str
    ranked: list[Ranked]

    @property
    def title(self) -> str:
        """Names the data set, pixels, measure and estimator."""
        key = self.key
        pixels = f"{key.get('pixels')} pixels" + (f", {key['binarize']} binarisation" if "binarize" in key else "")
        return " · ".join([str(key.get("data")), pixels, str(key.get("measure")), *map(described, estimators_of(key))])

    @property
    def subtitle(self) -> str:
        """Names the split, examples, data seed, weights and source file."""
        key, of = self.key, self.key.get("of")
        part = f"{of} examples" if key.get("examples") == of else f"first {key.get('examples')} of {of} examples"
        sources = sorted({ranked.result.source for ranked in self.ranked})
        weights = sorted({ranked.result.weights for ranked in self.ranked})
        origin = f"{' and '.join(weights)} weights, from {' and '.join(sources)}"
        return f"{key.get('split')} split, {part}, data.seed={key.get('data_seed')}; {origin}"

    @property
    def score_name(self) -> str:
        """The label of the metric that ranks the results."""
        return metric_of(self.by).label

    @property
    def unranked(self) -> str:
        """A sentence on the jobs without a rank; empty if all are ranked."""
        count = sum(ranked.rank is None for ranked in self.ranked)
        return (
            f"{count} of {len(self.ranked)} jobs {'has' if count == 1 else 'have'} no {self.score_name}, "
            "and so neither a rank nor a point in its plot."
            if count
            else ""
        )

    @property
    def has_bits(self) -> bool:
        """Whether any result has bits/dim."""
        return any("log_likelihood_bits_per_dim" in ranked.result.numbers for ranked in self.ranked)


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Return the groups of results, the largest group first."""
    by_key: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            by_key.setdefault(as_text(result.key), []).append((entry, result))
    largest_first = sorted(by_key.values(), key=len, reverse=True)
    return [_group(i, members) for i, members in enumerate(largest_first, 1)]


def _group(number: int, members: Sequence[tuple[Entry, Result]]) -> Group:
    by = "log_likelihood" if any("log_likelihood" in result.numbers for _, result in members) else "elbo"
    scored = [(result.numbers.get(by), entry, result) for entry, result in members]
    best_first = sorted(scored, key=lambda member: (math.inf if member[0] is None else -member[0], member[1].name))
    ranked = [Ranked(None if member[0] is None else i, *member) for i, member in enumerate(best_first, 1)]
    return Group(number, members[0][1].key, by, ranked)


def describe_differences(groups: Sequence[Group]) -> str:
    """Say in which parts of their keys the groups differ; empty for fewer than two groups."""
    if len(groups) < 2:
        return ""
    differing = []
    for name, label in KEY_LABELS.items():
        values = list(dict.fromkeys(_part_of_key(name, group.key) for group in groups))
        if len(values) > 1:
            differing.append(f"{label} ({', '.join(values)})")
    return (
        f"These {len(groups)} groups differ in {'; '.join(differing) or 'the images'}. "
        "Numbers are ranked, and share an axis, within a group only."
    )


def _part_of_key(name: str, key: Key) -> str:
    if name == "estimators":
        return ", ".join(map(described, estimators_of(key)))
    return str(key.get(name, "none"))


def estimators_of(key: Key) -> list[tuple[str, Any]]:
    """Return the estimators of a key, as pairs of name and settings."""
    estimators = key.get("estimators")
    return list(estimators.items()) if isinstance(estimators, Mapping) else []


def described(estimator: tuple[str, Any]) -> str:
    """Describe an estimator by its name with K, or with all its settings if it has no K."""
    name, settings = estimator
    settings = settings if isinstance(settings, Mapping) else {}
    if "num_samples" in settings:
        return f"{name} K={settings['num_samples']}"
    listed = ", ".join(f"{key} {value}" for key, value in settings.items())
    return f"{name} ({listed})" if listed else name
