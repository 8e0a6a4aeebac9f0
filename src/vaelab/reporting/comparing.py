"""Compare settings or runs with each other, in each group of results that can be compared, and tell it in Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from vaelab.errors import RunFolderError
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


@dataclass(frozen=True, repr=False)
class Compared:
    """The comparison of two or more sides; it shows itself as Markdown. All texts are redacted and printable."""

    groups: Sequence[tuple[Group, Sequence[Comparison]]]  # of two or more sides; a pair has a comparison by each metric
    apart: Sequence[str]  # why sides are not compared with others

    @property
    def differences(self) -> list[dict[str, Any]]:
        """Return the paired differences as plain data: a dict for each metric of each pair.

        `pandas.DataFrame(comparison.differences)` makes a table of them.
        """
        return [each.as_data() for _, comparisons in self.groups for each in comparisons]

    def __repr__(self) -> str:
        return self.as_markdown()

    _repr_markdown_ = __repr__

    def as_json(self) -> str:
        """Return the content of `comparison.json`."""
        groups = [
            group_as_data(group)
            | {"settings": [setting_as_data(setting) for setting in group.settings]}
            | {"comparisons": [each.as_data() for each in comparisons]}
            for group, comparisons in self.groups
        ]
        return finite_json({"format_version": FORMAT_VERSION, "groups": groups, "not_compared": self.apart})

    def as_markdown(self) -> str:
        """Return the content of `comparison.md`, which can be read as plain text too."""
        lines = ["# Comparison", *(f"\n{reason}." for reason in self.apart)]
        for group, comparisons in self.groups:
            lines += [f"\n## {words(group.title)}\n", f"{words(group.subtitle)}\n", *table_lines(group)]
            for each in comparisons:
                if each.by == group.by:  # the first metric of a pair
                    lines.append(f"\n{code(each.better.label)} against {code(each.worse.label)}:\n")
                lines.append(f"- {metric_of(each.by).label}: {sentence(each)}")
            notes = dict.fromkeys(each.scope for each in comparisons)
            notes |= {OF_BOUNDS: None} if any(setting.bounds for setting in group.settings) else {}
            lines += [f"\nNote: {note}." for note in notes if note]
        return "\n".join([*lines, f"\n{READING}\n"])


def compare_runs(runs: Sequence[str]) -> Compared:
    """Compare the sides that folders and patterns name.

    Raises:
        ConfigError: see `sides_of`.
        RunFolderError: see `sides_of`; or no two sides can be compared.
    """
    sides = sides_of(runs)
    numbers = {entry.path: str(i) for i, side in enumerate(sides) for entry in side.entries}
    groups = grouped([entry for side in sides for entry in side.entries], numbers)
    found = [(group, in_pairs(group)) for group in groups if len(group.settings) > 1]
    apart = list(reasons(sides, groups))
    missing = [each.reason for _, comparisons in found for each in comparisons]
    if not found or all(missing):
        raise RunFolderError("; ".join(dict.fromkeys([*apart, *missing])))
    return Compared(found, apart)


def in_pairs(group: Group) -> list[Comparison]:
    """Compare each two settings of a group, or with many settings the best with each other one."""
    few = len(group.settings) <= MOST_IN_PAIRS
    pairs = combinations(group.settings, 2) if few else product(group.settings[:1], group.settings[1:])
    return [compare(a, b, by) for a, b in pairs for by in dict.fromkeys((group.by, "elbo"))]


def reasons(sides: Sequence[Side], groups: Sequence[Group]) -> Iterator[str]:
    """Yield a sentence for each side without results, and one for each kind of sides that share no key."""
    kinds: dict[frozenset[int], list[Side]] = {}  # sides by the groups that they are in
    members = [{job.entry.path for setting in group.settings for job in setting.jobs} for group in groups]
    for side in sides:
        own = frozenset(i for i, paths in enumerate(members) if any(entry.path in paths for entry in side.entries))
        if own:
            kinds.setdefault(own, []).append(side)
        else:
            yield f"{code(side.label)} is left out: {words(without_result(side))}"
    for (own, first), (others, second) in combinations(kinds.items(), 2):
        if not own & others:
            closest = min((parts_that_differ([groups[i].key, groups[j].key]) for i, j in product(own, others)), key=len)
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
