"""Jobs that may be ranked together: those whose numbers share the comparability key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaelab.evaluation.comparability import Key
from vaelab.evaluation.declared import metric_of
from vaelab.reporting.reading import Entry, Result, as_text

NAMED = {
    **{"data": "data set", "data_seed": "data seed", "split": "split", "sha256": "images", "examples": "examples"},
    **{"pixels": "pixels", "binarize": "binarisation", "measure": "measure", "estimators": "estimator"},
    **{"dequantizations": "dequantisations"},
}


@dataclass(frozen=True)
class Ranked:
    """A job's numbers in a group.

    Attributes:
        rank: from 1; None without a score.
        score: the number that its group is ranked by, higher is better; None where it has none.
    """

    rank: int | None
    score: float | None
    entry: Entry
    result: Result


@dataclass(frozen=True)
class Group:
    """Results that share a key, best first.

    Attributes:
        by: the number that they are ranked by, `log_likelihood`, or `elbo` where none has an estimate.
    """

    number: int
    key: Key
    by: str
    ranked: list[Ranked]

    @property
    def name(self) -> str:
        """A word for messages."""
        return f"group {self.number}"

    @property
    def title(self) -> str:
        """Data set, pixels, measure and estimator."""
        key = self.key
        pixels = f"{key.get('pixels')} pixels" + (f", {key['binarize']} binarisation" if "binarize" in key else "")
        return " · ".join([str(key.get("data")), pixels, str(key.get("measure")), *map(described, estimators_of(key))])

    @property
    def subtitle(self) -> str:
        """Split, examples and seed of the data, whose weights and which file."""
        key, of = self.key, self.key.get("of")
        part = f"{of} examples" if key.get("examples") == of else f"first {key.get('examples')} of {of} examples"
        sources = sorted({ranked.result.source for ranked in self.ranked})
        weights = sorted({ranked.result.weights for ranked in self.ranked})
        told = f"{' and '.join(weights)} weights, from {' and '.join(sources)}"
        return f"{key.get('split')} split, {part}, data.seed={key.get('data_seed')}; {told}"

    @property
    def score_name(self) -> str:
        """What they are ranked by, for people."""
        return metric_of(self.by).label

    @property
    def unranked(self) -> str:
        """How many of the jobs have no rank and why, in a sentence; nothing if all have."""
        count = sum(ranked.rank is None for ranked in self.ranked)
        return (
            f"{count} of {len(self.ranked)} jobs {'has' if count == 1 else 'have'} no {self.score_name}: "
            f"without a rank, and not in the plot of it."
            if count
            else ""
        )

    @property
    def has_bits(self) -> bool:
        return any("log_likelihood_bits_per_dim" in ranked.result.numbers for ranked in self.ranked)


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The groups, the largest first; each ranked by log p(x), or by the bound where none of it has an estimate."""
    found: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            found.setdefault(as_text(result.key), []).append((entry, result))
    largest_first = sorted(found.values(), key=lambda members: -len(members))
    return [_group(i, members) for i, members in enumerate(largest_first, 1)]


def _group(number: int, members: Sequence[tuple[Entry, Result]]) -> Group:
    by = "log_likelihood" if any("log_likelihood" in result.numbers for _, result in members) else "elbo"
    scored = [(result.numbers.get(by), entry, result) for entry, result in members]
    best_first = sorted(scored, key=lambda member: (math.inf if member[0] is None else -member[0], member[1].name))
    ranked = [Ranked(None if member[0] is None else i, *member) for i, member in enumerate(best_first, 1)]
    return Group(number, members[0][1].key, by, ranked)


def apart(groups: Sequence[Group]) -> str:
    """In what the groups differ, in a sentence; nothing for one."""
    if len(groups) < 2:
        return ""
    told = []
    for name, label in NAMED.items():
        values = list(dict.fromkeys(_told(name, group.key) for group in groups))
        if len(values) > 1 and name != "sha256":
            told.append(f"{label} ({', '.join(values)})")
    return (
        f"These {len(groups)} groups differ in {'; '.join(told) or 'the images'}. "
        "Numbers are ranked, and share an axis, within a group only."
    )


def _told(name: str, key: Key) -> str:
    if name == "estimators":
        return ", ".join(map(described, estimators_of(key)))
    return str(key.get(name, "none"))


def estimators_of(key: Key) -> list[tuple[str, Any]]:
    """Names and settings."""
    found = key.get("estimators")
    return list(found.items()) if isinstance(found, Mapping) else []


def described(estimator: tuple[str, Any]) -> str:
    """An estimator by its name and what matters most of its settings."""
    name, own = estimator
    own = own if isinstance(own, Mapping) else {}
    if "num_samples" in own:
        return f"{name} K={own['num_samples']}"
    settings = ", ".join(f"{key} {value}" for key, value in own.items())
    return f"{name} ({settings})" if settings else name
