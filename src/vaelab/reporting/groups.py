"""Group the results that share a comparability key, and rank the settings within each group."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import dist, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any

from vaelab.evaluation.comparability import Key, as_text, estimator_of
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.trust import in_words, is_poor
from vaelab.reporting.keys import named, parts_that_differ
from vaelab.reporting.reading import Entry, Result
from vaelab.reporting.settings import label_of

ENDED_BADLY = ("failed", "killed", "damaged")


@dataclass(frozen=True)
class Ranked:
    """One result of a job, with its place in its group."""

    rank: int | None  # the rank of the job's setting; None if the job has no score or no validation
    score: float | None  # the value of the metric `by` on the test (higher is better); None if the result lacks it
    entry: Entry
    result: Result
    by: str  # the metric that the group shows: `log_likelihood`, or `elbo` if no result has an estimate

    @property
    def bounds(self) -> bool:
        """Whether the score is only a lower bound of log p(x), because the proposal is poor for too many examples."""
        return is_poor(self.result.numbers)


@dataclass(frozen=True, eq=False)
class Setting:
    """The jobs of a group that differ only in their seed."""

    rank: int  # 1 for the setting whose seeds have the highest mean validation bound
    jobs: list[Ranked]  # at least one, all with a score and a validation
    failed: int  # the number of further seeds that ended without a result
    columns: Sequence[str]  # the names of the values that differ between the settings of the group

    @property
    def values(self) -> dict[str, Any]:
        """The settings that differ between the jobs of the sweep, by name, without the seed."""
        return {name: value for name, value in self.jobs[0].entry.settings.items() if name != "seed"}

    @property
    def label(self) -> str:
        """The values as text, such as `decoder=gaussian, latent_dim=10`."""
        return label_of(self.values)

    @property
    def name(self) -> str:
        """The label without what all settings of the group share."""
        return label_of({name: self.values[name] for name in self.columns}) if self.columns else self.label

    @property
    def validation(self) -> float:
        """The mean validation bound over seeds, in nats."""
        return validation_of(self.jobs)

    @property
    def score(self) -> float:
        """The mean test score over seeds, in nats."""
        return fmean(self.numbers(self.jobs[0].by))

    @property
    def error(self) -> float | None:
        """The standard error of the score over seeds; None for a single seed."""
        return spread(self.numbers(self.jobs[0].by))

    @property
    def bounds(self) -> bool:
        """Whether the score of a seed is only a lower bound of log p(x)."""
        return any(job.bounds for job in self.jobs)

    @property
    def seconds(self) -> float:
        """The mean run time of a seed."""
        return fmean(job.entry.seconds for job in self.jobs)

    def numbers(self, name: str) -> list[float]:
        """Return the value of a metric for each seed; empty if a seed lacks it."""
        values = [job.result.numbers[name] for job in self.jobs if name in job.result.numbers]
        return values if len(values) == len(self.jobs) else []

    def mean(self, name: str) -> float | None:
        """Return the mean of a metric over seeds; None if a seed lacks it."""
        return fmean(values) if (values := self.numbers(name)) else None

    @property
    def meaning(self) -> str:
        """What the score is, and how far it can be trusted."""
        names = set.intersection(*(set(job.result.numbers) for job in self.jobs))
        worst = max(job.result.numbers.get("pareto_k_bad", 0.0) for job in self.jobs)
        return in_words({name: self.mean(name) or 0.0 for name in names}, self.jobs[0].by, worst)


@dataclass(frozen=True)
class Group:
    """Results that share a comparability key, best settings first."""

    number: int
    key: Key
    by: str  # the metric that it shows: `log_likelihood`, or `elbo` if no result has an estimate
    settings: list[Setting]  # chosen by validation, the best first
    ranked: list[Ranked]  # the results of all jobs, setting by setting, then those without a rank

    @property
    def title(self) -> str:
        """Names the data set, pixels, measure, estimator, and the fitted prior if there is one."""
        key = self.key
        protocol = f"{key['binarize']} binarisation" if "binarize" in key else f"{key.get('num_levels')} levels"
        pixels = f"{key.get('pixels')} pixels, {protocol}"
        prior = f" · fitted prior: {key['fitted_prior']}" if "fitted_prior" in key else ""
        return f"{key.get('data')} · {pixels} · {key.get('measure')} · {estimator_of(key)}{prior}"

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


def grouped(entries: Sequence[Entry], settings: Mapping[Path, str]) -> list[Group]:
    """Return the groups of results, the largest first; `settings` maps a job's folder to its setting."""
    by_key: dict[str, list[tuple[Entry, Result]]] = {}
    for entry in entries:
        for result in entry.results:
            by_key.setdefault(as_text(result.key), []).append((entry, result))
    members = sorted(by_key.values(), key=len, reverse=True)
    failed = Counter(settings[e.path] for e in entries if e.state in ENDED_BADLY and not e.results)
    return [_group(number, group, settings, failed) for number, group in enumerate(members, 1)]


def _group(
    number: int, members: Sequence[tuple[Entry, Result]], settings: Mapping[Path, str], failed: Mapping[str, int]
) -> Group:
    by = "log_likelihood" if any("log_likelihood" in result.numbers for _, result in members) else "elbo"
    left: list[Ranked] = []
    by_setting: dict[str, list[Ranked]] = {}
    for entry, result in sorted(members, key=_seed_and_name):
        job = Ranked(None, result.numbers.get(by), entry, result, by)
        chosen = job.score is not None and result.validation is not None
        (by_setting.setdefault(settings[entry.path], []) if chosen else left).append(job)
    ordered = sorted(by_setting.items(), key=lambda item: (-validation_of(item[1]), item[0]))
    values = [jobs[0].entry.settings for _, jobs in ordered]
    names = [name for name in (values[0] if values else ()) if name != "seed"]
    columns = [name for name in names if len({as_text(each[name]) for each in values}) > 1]
    found = [
        Setting(rank, [replace(job, rank=rank) for job in jobs], failed[setting], columns)
        for rank, (setting, jobs) in enumerate(ordered, 1)
    ]
    return Group(number, members[0][1].key, by, found, [job for each in found for job in each.jobs] + left)


def _seed_and_name(member: tuple[Entry, Result]) -> tuple[int, str, str]:
    seed = str(member[0].flat.get("seed"))
    return len(seed), seed, member[0].name


def spread(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean over seeds; None for a single seed."""
    n = len(values)
    return dist(values, [fmean(values)] * n) / sqrt(n * (n - 1)) if n > 1 else None


def validation_of(jobs: Sequence[Ranked]) -> float:
    """Return the mean validation bound of jobs that have one, in nats."""
    return fmean(job.result.validation for job in jobs if job.result.validation is not None)


def describe_differences(groups: Sequence[Group]) -> str:
    """Return a sentence that says how the groups' keys differ; empty for fewer than two groups."""
    if len(groups) < 2:
        return ""
    return (
        f"These {len(groups)} groups differ in {named(parts_that_differ([group.key for group in groups]))}. "
        "Numbers are ranked, and share an axis, within a group only."
    )
