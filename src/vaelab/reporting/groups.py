"""Jobs that may be ranked together: those whose numbers share the comparability key."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaelab.comparability import Key
from vaelab.reporting.reading import Entry, Result, as_text

NAMED = {
    **{"data": "data set", "data_seed": "data seed", "split": "split", "sha256": "images", "examples": "examples"},
    **{"pixels": "pixels", "binarize": "binarisation", "measure": "measure", "estimators": "estimator"},
    **{"dequantizations": "dequantisations"},
}


@dataclass(frozen=True)
class Ranked:
    """A job's numbers in a group; the rank begins at 1, and is None where there is no number to rank by."""

    rank: int | None
    entry: Entry
    result: Result


@dataclass(frozen=True)
class Group:
    """Results that share a key, best first."""

    number: int
    key: Key
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
    def has_bits(self) -> bool:
        return any("log_likelihood_bits_per_dim" in ranked.result.numbers for ranked in self.ranked)


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """The groups, the largest first; each ranked by log p(x), or by the bound where there is no estimate."""
    found: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            found.setdefault(as_text(result.key), []).append((entry, result))
    largest_first = sorted(found.values(), key=lambda members: -len(members))
    return [Group(i, members[0][1].key, _ranked(members)) for i, members in enumerate(largest_first, 1)]


def _ranked(members: Sequence[tuple[Entry, Result]]) -> list[Ranked]:
    def order(member: tuple[Entry, Result]) -> tuple[float, str]:
        score = member[1].score
        return (math.inf if math.isnan(score) else -score, member[0].name)

    best_first = sorted(members, key=order)
    return [
        Ranked(None if math.isnan(result.score) else i, entry, result)
        for i, (entry, result) in enumerate(best_first, 1)
    ]


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
