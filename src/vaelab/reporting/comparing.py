"""Compare settings or runs with each other, in each group of results that can be compared, and tell it in Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import as_text
from vaelab.evaluation.declared import metric_of
from vaelab.reporting.differences import OF_BOUNDS, Comparison, compare
from vaelab.reporting.gathering import finite_json, group_as_data, setting_as_data
from vaelab.reporting.groups import Group, grouped
from vaelab.reporting.keys import named, parts_that_differ, remedy
from vaelab.reporting.settings_table import IN_MARKDOWN, SettingRow, markdown_lines
from vaelab.reporting.sides import Side, sides_of
from vaelab.runs.folder.contents import FORMAT_VERSION

READING = (
    "Of each pair, the setting that validation prefers comes first. ± is half the width of a 95 % interval, which is "
    "for one pair: of twenty pairs without a difference, about one looks apart by chance."
)
MOST_IN_PAIRS = 10  # settings; of more, each is compared with the best only


@dataclass(frozen=True)
class ComparedGroup:
    """The settings of a group, and of each pair, metric → the difference."""

    group: Group
    pairs: Sequence[Mapping[str, Comparison]]

    @property
    def each(self) -> list[tuple[str, Comparison]]:
        """All comparisons, each after its metric."""
        return [item for pair in self.pairs for item in pair.items()]


@dataclass(frozen=True)
class Compared:
    """The comparison of two or more sides. All texts are redacted and printable.

    Attributes:
        groups: those with two or more sides.
        apart: why sides are not compared with others.
    """

    groups: Sequence[ComparedGroup]
    apart: Sequence[str]

    def as_json(self) -> str:
        """Return the content of `comparison.json`."""
        groups = [
            group_as_data(found.group)
            | {"settings": [setting_as_data(setting) for setting in found.group.settings]}
            | {"comparisons": [pair_as_data(by, each) for by, each in found.each]}
            for found in self.groups
        ]
        return finite_json({"format_version": FORMAT_VERSION, "groups": groups, "not_compared": self.apart})

    def as_markdown(self) -> str:
        """Return the content of `comparison.md`, which can be read as plain text too."""
        lines = ["# Comparison", *(f"\n{reason}." for reason in self.apart)]
        for found in self.groups:
            group = found.group
            lines += [f"\n## {words(group.title)}\n", f"{words(group.subtitle)}\n", *table_lines(group)]
            for pair in found.pairs:
                first = next(iter(pair.values()))
                lines.append(f"\n{code(first.better.label)} against {code(first.worse.label)}:\n")
                lines += [f"- {metric_of(by).label}: {sentence(each)}" for by, each in pair.items()]
            if any(setting.bounds for setting in group.settings):
                lines.append(f"\nNote: {OF_BOUNDS}.")
            lines += [f"\nNote: {scope}." for scope in dict.fromkeys(each.scope for _, each in found.each) if scope]
        lines.append(f"\n{READING}")
        return "\n".join(lines) + "\n"


def compare_runs(runs: Sequence[str]) -> Compared:
    """Compare the sides that folders and patterns name.

    Raises:
        ConfigError: see `sides_of`.
        RunFolderError: see `sides_of`; or no two sides can be compared.
    """
    sides = sides_of(runs)
    numbers = {entry.path: str(i) for i, side in enumerate(sides) for entry in side.entries}
    groups = grouped([entry for side in sides for entry in side.entries], numbers)
    found = [compared(group) for group in groups if len(group.settings) > 1]
    apart = list(reasons(sides, groups))
    missing = [comparison.reason for each in found for _, comparison in each.each]
    if not found or all(missing):
        raise RunFolderError("; ".join(dict.fromkeys([*apart, *missing])))
    return Compared(found, apart)


def compared(group: Group) -> ComparedGroup:
    """Compare each two settings of a group, or with many settings the best with each other one."""
    best, *others = group.settings
    few = len(group.settings) <= MOST_IN_PAIRS
    pairs = list(combinations(group.settings, 2)) if few else [(best, other) for other in others]
    metrics = dict.fromkeys((group.by, "elbo"))
    return ComparedGroup(group, [{by: compare(a, b, by) for by in metrics} for a, b in pairs])


def reasons(sides: Sequence[Side], groups: Sequence[Group]) -> Iterator[str]:
    """Yield a sentence for each side without results, and one for each kind of sides that share no key."""
    kinds: dict[frozenset[str], list[Side]] = {}  # sides by the keys that they have results of
    keys = {as_text(group.key): group.key for group in groups}
    found = [(as_text(g.key), {job.entry.path for setting in g.settings for job in setting.jobs}) for g in groups]
    for side in sides:
        own = frozenset(key for key, paths in found if any(entry.path in paths for entry in side.entries))
        if own:
            kinds.setdefault(own, []).append(side)
        else:
            yield f"{code(side.label)} is left out: {words(without_result(side))}"
    for (own, first), (others, second) in combinations(kinds.items(), 2):
        if not own & others:
            closest = min((parts_that_differ([keys[a], keys[b]]) for a, b in product(own, others)), key=len)
            pair = f"{code(first[0].label)} and {code(second[0].label)}"
            more = len(first) * len(second) - 1
            pair += f", and {more} more such pairs," if more else ""
            yield f"{pair} are not compared, because they differ in {words(named(closest))}: {remedy(closest)}"


def without_result(side: Side) -> str:
    """Say why a side has no result that can be compared."""
    entry = next((entry for entry in side.entries if entry.state != "done"), side.entries[0])
    if entry.damage:
        return f"{entry.name} is damaged: {entry.damage[0]}"
    if entry.state != "done":
        return f"{entry.name} is {entry.state}, expected a finished run"
    return f"{entry.name} has no test result with a validation: evaluate it again"


def sentence(each: Comparison) -> str:
    """Say whether a setting is better than another, by how much, and over how many seeds and examples."""
    counts = ""
    if (found := each.difference) is not None:
        first, second = found.seeds
        counts = f" ({first} and {second} seeds, {found.examples:,} examples)"
    return "; ".join(filter(None, [words(each.verdict) + counts, each.needed]))


def table_lines(group: Group) -> list[str]:
    """Return the lines of a Markdown table of the settings of a group, with their mean scores."""
    scores = dict.fromkeys((group.by, "elbo"))
    rows = [["setting", "seeds", "val ELBO", *(metric_of(name).label for name in scores)]]
    for row in (SettingRow(setting, None) for setting in group.settings):
        numbers = [row.setting.validation, *map(row.setting.mean, scores)]
        rows.append([code(row.setting.label), row.seeds, *("" if each is None else f"{each:.2f}" for each in numbers)])
    return markdown_lines(rows, texts=1)


def words(text: str) -> str:
    """Return a text as ordinary words in Markdown, on one line; it may be a stranger's."""
    return " ".join(text.split()).translate(IN_MARKDOWN)


def code(text: str) -> str:
    """Return a text as code in Markdown, on one line."""
    return f"`{' '.join(text.split()).translate({ord('`'): chr(39), ord('|'): '/'})}`"


def pair_as_data(by: str, each: Comparison) -> dict[str, object]:
    """Return the comparison of a pair by a metric as plain data."""
    return {"metric": by, "setting": each.better.label, "against": each.worse.label, **each.as_data()}
