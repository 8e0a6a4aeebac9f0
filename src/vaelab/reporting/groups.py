"""Group the results that share a comparability key, and rank the settings within each group."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

from vaelab.evaluation.comparability import Key, as_text, estimator_of
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.trust import in_words as meaning_of
from vaelab.evaluation.trust import is_poor
from vaelab.reporting.keys import in_words, parts_that_differ
from vaelab.reporting.reading import Entry, Result
from vaelab.reporting.settings import label_of

ENDED_BADLY = ("failed", "killed", "damaged")


@dataclass(frozen=True)
class Ranked:
    """One result of a job, with its place in its group.

    Attributes:
        rank: the rank of the job's setting; None if the job has no score or no validation.
        score: the value of the metric `by` on the test (higher is better); None if the result lacks it.
        by: the metric that the group shows: `log_likelihood`, or `elbo` if no result has an estimate.
    """

    rank: int | None
    score: float | None
    entry: Entry
    result: Result
    by: str

    @property
    def bounds(self) -> bool:
        """Whether the score is only a lower bound of log p(x), because the proposal is poor for too many examples."""
        return is_poor(self.result.numbers)


@dataclass(frozen=True)
class Setting:
    """The jobs of a group that differ only in their seed.

    Attributes:
        rank: 1 for the setting whose seeds have the highest mean validation bound.
        jobs: at least one, all with a score and a validation.
        failed: the number of further seeds that ended without a result.
    """

    rank: int
    jobs: list[Ranked]
    failed: int

    @property
    def values(self) -> dict[str, Any]:
        """The settings that differ between the jobs of the sweep, by name, without the seed."""
        return {name: value for name, value in self.jobs[0].entry.settings.items() if name != "seed"}

    @property
    def label(self) -> str:
        """The values as text, such as `decoder=gaussian, latent_dim=10`."""
        return label_of(self.values)

    @property
    def validation(self) -> float:
        """The mean validation bound over seeds, in nats."""
        return validation_of(self.jobs)

    @property
    def score(self) -> float:
        """The mean test score over seeds, in nats."""
        return fmean(job.score for job in self.jobs if job.score is not None)

    @property
    def error(self) -> float | None:
        """The standard error of the score over seeds; None for a single seed."""
        scores = [job.score for job in self.jobs if job.score is not None]
        return stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else None

    @property
    def bounds(self) -> bool:
        """Whether the score of a seed is only a lower bound of log p(x)."""
        return any(job.bounds for job in self.jobs)

    @property
    def seconds(self) -> float:
        """The mean run time of a seed."""
        return fmean(job.entry.seconds for job in self.jobs)

    def mean(self, name: str) -> float | None:
        """Return the mean of another metric over seeds; None if a seed lacks it."""
        values = [job.result.numbers.get(name) for job in self.jobs]
        return None if None in values else fmean(value for value in values if value is not None)

    @property
    def meaning(self) -> str:
        """What the score is, and how far it can be trusted."""
        names = set.intersection(*(set(job.result.numbers) for job in self.jobs))
        worst = {"pareto_k_bad": max(job.result.numbers.get("pareto_k_bad", 0.0) for job in self.jobs)}
        own = {name: self.mean(name) or 0.0 for name in names} | (worst if "pareto_k_bad" in names else {})
        return meaning_of(own, self.jobs[0].by)


@dataclass(frozen=True)
class Group:
    """Results that share a comparability key, best settings first.

    Attributes:
        by: the metric that it shows: `log_likelihood`, or `elbo` if no result has an estimate.
        settings: chosen by validation, the best first.
        ranked: the results of all jobs, setting by setting, then those without a rank.
    """

    number: int
    key: Key
    by: str
    settings: list[Setting]
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
        sources = sorted({ranked.result.source.partition("/")[0] for ranked in self.ranked})
        weights = sorted({ranked.result.weights for ranked in self.ranked})
        origin = f"{' and '.join(weights)} weights, from {' and '.join(sources)}"
        return f"{key.get('split')} split, {part}, data.seed={key.get('data_seed')}; {origin}"

    @property
    def split(self) -> str:
        """The name of the split that gives the scores, such as `test`."""
        return {"val": "validation"}.get(self.key["split"], str(self.key["split"]))

    @property
    def score_name(self) -> str:
        """The label of the metric that the group shows."""
        return metric_of(self.by).label

    @property
    def unranked(self) -> str:
        """A sentence that counts the jobs without a rank; empty if every job has one."""
        count = sum(ranked.rank is None for ranked in self.ranked)
        jobs = f"{count} of {len(self.ranked)} jobs {'has' if count == 1 else 'have'} no {self.score_name}"
        return f"{jobs} or no validation, and so neither a rank nor a point in its plot." if count else ""


def setting_of(entry: Entry) -> str:
    """Return a text that is equal for jobs that differ only in their seed."""
    return as_text({name: value for name, value in entry.flat.items() if name != "seed"})


def grouped(entries: Sequence[Entry], of: Callable[[Entry], str] = setting_of) -> list[Group]:
    """Return the groups of results, the largest group first; jobs with the same text `of` are one setting."""
    by_key: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            by_key.setdefault(as_text(result.key), []).append((entry, result))
    members = sorted(by_key.values(), key=len, reverse=True)
    failed = Counter(of(entry) for entry in entries if entry.state in ENDED_BADLY and not entry.results)
    return [_group(number, group, failed, of) for number, group in enumerate(members, 1)]


def _group(
    number: int, members: Sequence[tuple[Entry, Result]], failed: Mapping[str, int], of: Callable[[Entry], str]
) -> Group:
    by = "log_likelihood" if any("log_likelihood" in result.numbers for _, result in members) else "elbo"
    jobs = [Ranked(None, result.numbers.get(by), entry, result, by) for entry, result in members]
    by_setting: dict[str, list[Ranked]] = {}
    for job in jobs:
        if job.score is not None and job.result.validation is not None:
            by_setting.setdefault(of(job.entry), []).append(job)
    ordered = sorted(by_setting.items(), key=lambda item: (-validation_of(item[1]), item[0]))
    settings = []
    for rank, (setting, found) in enumerate(ordered, 1):
        seeds = sorted(found, key=lambda job: (len(seed := str(job.entry.flat.get("seed"))), seed, job.entry.name))
        settings.append(Setting(rank, [replace(job, rank=rank) for job in seeds], failed[setting]))
    left = [job for job in jobs if job.score is None or job.result.validation is None]
    left.sort(key=lambda job: job.entry.name)
    return Group(number, members[0][1].key, by, settings, [job for each in settings for job in each.jobs] + left)


def validation_of(jobs: Sequence[Ranked]) -> float:
    """Return the mean validation bound of jobs that have one, in nats."""
    return fmean(job.result.validation for job in jobs if job.result.validation is not None)


def describe_differences(groups: Sequence[Group]) -> str:
    """Return a sentence that says how the groups' keys differ; empty for fewer than two groups."""
    if len(groups) < 2:
        return ""
    return (
        f"These {len(groups)} groups differ in {in_words(parts_that_differ([group.key for group in groups]))}. "
        "Numbers are ranked, and share an axis, within a group only."
    )
