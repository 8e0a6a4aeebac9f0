"""Group the results that share a comparability key, and rank them within each group."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vaelab.evaluation.comparability import Key, as_text, estimator_of
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.trust import error_of, in_words
from vaelab.reporting.reading import Entry, Result


@dataclass(frozen=True)
class Ranked:
    """One result with its place in its group.

    Attributes:
        rank: 1 for the best; None if the result has no score.
        score: the value of the metric that ranks the group (higher is better); None if the result lacks it.
        by: that metric.
    """

    rank: int | None
    score: float | None
    entry: Entry
    result: Result
    by: str

    @property
    def error(self) -> tuple[float | None, str]:
        """The standard error of the score, and what it includes; see `vaelab.evaluation.trust.error_of`."""
        return error_of(self.result.numbers, self.by)

    @property
    def meaning(self) -> str:
        """What the score is, and how far it can be trusted; empty without a score."""
        return "" if self.rank is None else in_words(self.result.numbers, self.by)


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
        protocol = f"{key['binarize']} binarisation" if "binarize" in key else f"{key.get('num_levels')} levels"
        pixels = f"{key.get('pixels')} pixels, {protocol}"
        return f"{key.get('data')} · {pixels} · {key.get('measure')} · {estimator_of(key)}"

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
        """A sentence that counts the jobs without a rank; empty if every job has one."""
        count = sum(ranked.rank is None for ranked in self.ranked)
        jobs = f"{count} of {len(self.ranked)} jobs {'has' if count == 1 else 'have'} no {self.score_name}"
        return f"{jobs}, and so neither a rank nor a point in its plot." if count else ""


def grouped(entries: Iterable[Entry]) -> list[Group]:
    """Return the groups of results, the largest group first."""
    by_key: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            by_key.setdefault(as_text(result.key), []).append((entry, result))
    groups = []
    for number, members in enumerate(sorted(by_key.values(), key=len, reverse=True), 1):
        by = "log_likelihood" if any("log_likelihood" in result.numbers for _, result in members) else "elbo"
        scored = [(result.numbers.get(by), entry, result) for entry, result in members]
        scored.sort(key=lambda member: (member[0] is None, -(member[0] or 0), member[1].name))
        ranked = [Ranked(None if member[0] is None else i, *member, by) for i, member in enumerate(scored, 1)]
        groups.append(Group(number, members[0][1].key, by, ranked))
    return groups


def describe_differences(groups: Sequence[Group]) -> str:
    """Return a sentence that says how the groups' keys differ; empty for fewer than two groups."""
    if len(groups) < 2:
        return ""
    keys = [group.key | {"estimators": estimator_of(group.key)} for group in groups]
    differing = []
    for name in dict.fromkeys(name for key in keys for name in key if name not in ("sha256", "of")):
        values = dict.fromkeys(str(key.get(name, "none")) for key in keys)
        if len(values) > 1:
            differing.append(f"{name.replace('_', ' ')} ({', '.join(values)})")
    return (
        f"These {len(groups)} groups differ in {'; '.join(differing) or 'the images'}. "
        "Numbers are ranked, and share an axis, within a group only."
    )
