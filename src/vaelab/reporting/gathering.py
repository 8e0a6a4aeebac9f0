"""A sweep's folder, read as a whole: what the page and the files beside it are made of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vaelab.errors import RunFolderError
from vaelab.reporting.groups import Group, apart, grouped
from vaelab.reporting.reading import STATES, Entry, read
from vaelab.reporting.settings import held_equal, settle
from vaelab.reporting.table import Row, finite, rows_of
from vaelab.runs.folder.contents import FORMAT_VERSION
from vaelab.security.redaction import presentable
from vaelab.sweeps.folder import Job, SweepFolder


@dataclass(frozen=True)
class Report:
    """What was found of a sweep; all texts are redacted and printable.

    Attributes:
        name: the sweep's.
        made: when, in UTC.
        columns: the settings that differ, in the order of the table's columns.
        held: those that all jobs share.
        entries: the jobs, in the order in which they were planned.
    """

    name: str
    made: datetime
    columns: list[str]
    held: Mapping[str, Any]
    entries: Sequence[Entry]
    groups: Sequence[Group]
    rows: Sequence[Row]

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are in each state that occurs."""
        found = Counter(entry.state for entry in self.entries)
        return {state: found[state] for state in STATES if found[state]}

    @property
    def seconds(self) -> float:
        """Of all jobs together, one after another."""
        return sum(entry.seconds for entry in self.entries)

    @property
    def environments(self) -> dict[str, dict[str, int]]:
        """Package → version → how many jobs ran with it."""
        names = dict.fromkeys(name for entry in self.entries for name in entry.versions)
        return {n: dict(Counter(e.versions[n] for e in self.entries if n in e.versions)) for n in names}

    def as_data(self) -> dict[str, Any]:
        """For `report.json`: the rows of `report.csv`, with what they may be compared with and what they share."""
        groups = [
            {"group": g.number, "title": g.title, "subtitle": g.subtitle, "ranked_by": g.by, "comparability": g.key}
            for g in self.groups
        ]
        return finite(
            {
                "format_version": FORMAT_VERSION,
                "sweep": self.name,
                "made": self.made.isoformat(timespec="seconds"),
                "jobs": self.counts,
                "seconds": self.seconds,
                "groups": groups,
                "apart": apart(self.groups),
                "rows": list(self.rows),
                "settings_that_differ": self.columns,
                "settings_held_equal": dict(self.held),
                "environments": self.environments,
            }
        )


def gather(path: Path) -> Report:
    """Reads a sweep's folder, wherever its jobs are; no job's state is an error.

    Raises:
        RunFolderError: no such folder, none of a sweep's, or a plan that cannot be read.
    """
    entries = [read(job) for job in jobs_of(path)]
    columns = settle(entries)
    entries = [_presentable(entry) for entry in entries]
    groups = grouped(entries)
    name = presentable(path.resolve().name)
    held = presentable(held_equal(entries))
    return Report(name, datetime.now(UTC), columns, held, entries, groups, rows_of(entries, groups))


def jobs_of(path: Path) -> list[Job]:
    """The jobs of a sweep's folder, at least one.

    Raises:
        RunFolderError: says what is there instead, and what to type.
    """
    if not path.is_dir():
        known = sorted(each.name for each in path.parent.iterdir() if each.is_dir()) if path.parent.is_dir() else []
        there = f"; there are {', '.join(known[:10])}" if known else ""
        raise RunFolderError(f"{path} is not a folder{there}: give sweep=logs/sweeps/NAME")
    if (path / "config.yaml").exists():
        raise RunFolderError(f"{path} is a run folder, expected a sweep's: give sweep={path.parent}")
    jobs = SweepFolder(path).jobs()
    if not jobs:
        raise RunFolderError(f"{path} holds no run folder, and no plan of a sweep: give sweep=logs/sweeps/NAME")
    return jobs


def _presentable(entry: Entry) -> Entry:
    names = ("name", "state", "error", "damage", "notes", "versions", "log", "settings")
    told = presentable({name: getattr(entry, name) for name in names} | {"keys": [r.key for r in entry.results]})
    keys = told.pop("keys")
    results = [replace(result, key=key) for result, key in zip(entry.results, keys, strict=True)]
    return replace(entry, **told, results=results)
