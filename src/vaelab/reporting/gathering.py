"""Gather a sweep's folder into one `Report`, from which the page, the CSV and the JSON are made."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vaelab.errors import RunFolderError
from vaelab.reporting.groups import Group, Setting, describe_differences, grouped
from vaelab.reporting.headline import headline, on_jobs
from vaelab.reporting.reading import Entry, read
from vaelab.reporting.rising import still_rising
from vaelab.reporting.settings import assign_settings, confounded, settings_of, shared_settings
from vaelab.reporting.settings_table import SettingRow, SettingsTable, table_of
from vaelab.reporting.table import Row, rows_of
from vaelab.reporting.values import STATES
from vaelab.runs.folder.contents import FORMAT_VERSION
from vaelab.security.redaction import presentable
from vaelab.sweeps.folder import Job, SweepFolder

IN_JSON = ("rank", "values", "validation", "score", "error", "bounds", "meaning", "seconds")  # attributes of a setting


@dataclass(frozen=True)
class Report:
    """Everything that a report shows of a sweep. All texts are redacted and printable."""

    name: str  # the sweep's name
    made: datetime  # when the report was made, in UTC
    columns: list[str]  # settings that differ between jobs, in the order of the table's columns
    shared: Mapping[str, Any]  # settings that all jobs have in common
    entries: Sequence[Entry]  # the jobs, in the order of the plan
    tables: Mapping[int, SettingsTable]  # number of a group → the table of its settings
    headlines: Mapping[int, Sequence[str]]  # number of a group → sentences on its best setting
    cautions: Sequence[str]  # sentences on settings that always vary together, and on jobs without a result
    rows: Sequence[Row]

    @property
    def groups(self) -> list[Group]:
        """The groups of results that can be compared, the largest first."""
        return [table.group for table in self.tables.values()]

    @property
    def counts(self) -> dict[str, int]:
        """The number of jobs in each state that occurs."""
        counts = Counter(entry.state for entry in self.entries)
        return {state: counts[state] for state in STATES if counts[state]}

    @property
    def seconds(self) -> float:
        """The run time of all jobs, added up."""
        return sum(entry.seconds for entry in self.entries)

    @property
    def environments(self) -> dict[str, dict[str, int]]:
        """Package → version → number of jobs that ran with it."""
        names = dict.fromkeys(name for entry in self.entries for name in entry.versions)
        return {n: dict(Counter(e.versions[n] for e in self.entries if n in e.versions)) for n in names}

    def as_json(self) -> str:
        """Return the content of `report.json`: the rows of `report.csv`, the groups, and the settings."""
        data = {
            "format_version": FORMAT_VERSION,
            "sweep": self.name,
            "made": self.made.isoformat(timespec="seconds"),
            "jobs": self.counts,
            "seconds": self.seconds,
            "groups": [
                {"group": number}
                | group_as_data(table.group)
                | {"headline": self.headlines[number], "settings": list(map(row_as_data, table.rows))}
                for number, table in self.tables.items()
            ],
            "apart": describe_differences(self.groups),
            "rows": self.rows,
            "settings_that_differ": self.columns,
            "cautions": self.cautions,
            "settings_held_equal": self.shared,
            "environments": self.environments,
        }
        return finite_json(data)


def finite_json(data: Any) -> str:
    """Return plain data as JSON, with null in place of a number that is not finite, because JSON has none."""
    return json.dumps(json.loads(json.dumps(data, default=str), parse_constant=lambda name: None), indent=2)


def group_as_data(group: Group) -> dict[str, Any]:
    """Return what a group is as plain data."""
    return {"title": group.title, "subtitle": group.subtitle, "ranked_by": group.by, "comparability": group.key}


def row_as_data(row: SettingRow) -> dict[str, Any]:
    """Return a setting as plain data, with its difference from the best one."""
    return setting_as_data(row.setting) | {"best_compared_to_it": row.comparison and row.comparison.as_data()}


def setting_as_data(setting: Setting) -> dict[str, Any]:
    """Return a setting as plain data."""
    return {
        **{name: getattr(setting, name) for name in IN_JSON},
        "seeds": [job.entry.flat.get("seed") for job in setting.jobs],
        "failed": setting.failed,
        "jobs": [job.entry.name for job in setting.jobs],
    }


def gather(path: Path) -> Report:
    """Read a sweep's folder, whatever the state of its jobs.

    Raises:
        RunFolderError: the folder is missing, is not a sweep's, or has an unreadable plan.
    """
    entries = [read(job) for job in jobs_of(path)]
    columns = assign_settings(entries)
    tables = {group.number: table_of(group) for group in grouped(entries, settings_of(entries))}
    headlines = {
        number: [*headline(table.group, table.comparisons), *filter(None, [still_rising(table.group)])]
        for number, table in tables.items()
    }
    return Report(
        name=presentable(path.resolve().name),
        made=datetime.now(UTC),
        columns=columns,
        shared=shared_settings(entries),
        entries=entries,
        tables=tables,
        headlines=headlines,
        cautions=on_jobs(entries) + confounded(entries, columns),
        rows=rows_of(entries, list(tables.values())),
    )


def jobs_of(path: Path) -> list[Job]:
    """Return the jobs of a sweep's folder, at least one.

    Raises:
        RunFolderError: the path is not a sweep's folder, or the sweep has no jobs.
    """
    if not path.is_dir():
        known = sorted(each.name for each in path.parent.iterdir() if each.is_dir()) if path.parent.is_dir() else []
        hint = f"; there are {', '.join(known[:10])}" if known else ""
        raise RunFolderError(f"{path} is not a folder{hint}: give sweep=logs/sweeps/NAME")
    if (path / "config.yaml").exists():
        raise RunFolderError(f"{path} is a run folder, not a sweep's folder: give sweep={path.parent}")
    jobs = SweepFolder(path).jobs()
    if not jobs:
        raise RunFolderError(f"{path} holds neither a run folder nor the plan of a sweep: give sweep=logs/sweeps/NAME")
    return jobs
