"""Build the table of jobs: rows of plain values, which `report.csv`, `report.json` and W&B share."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from vaelab.reporting.groups import Group, Ranked
from vaelab.reporting.reading import Entry
from vaelab.reporting.settings_table import SettingRow, SettingsTable

METRICS = (
    *("log_likelihood", "standard_error", "elbo", "reconstruction", "kl", "active_units"),
    *("log_likelihood_bits_per_dim", "pareto_k_bad", "amortization_gap", "approximation_gap"),
    *("coverage_90", "miscalibration"),
)
NUMBERS = {name.removeprefix("log_likelihood_"): name for name in METRICS}  # column of the files → declared metric
Row = dict[str, Any]


def rows_of(entries: Sequence[Entry], tables: Sequence[SettingsTable]) -> list[Row]:
    """Return a row for each result, group by group and best first, and then one for each job without results."""
    rows = []
    for table in tables:
        of_rank: dict[int | None, SettingRow] = {row.setting.rank: row for row in table.rows}
        rows += [_row(job.entry, table.group, job, of_rank.get(job.rank)) for job in table.group.ranked]
    return rows + [_row(entry) for entry in entries if not entry.results]


def _row(entry: Entry, group: Group | None = None, job: Ranked | None = None, row: SettingRow | None = None) -> Row:
    result, setting = job and job.result, row and row.setting
    difference = row and row.comparison and row.comparison.difference
    return {
        "group": group and group.number,
        "rank": job and job.rank,
        "seeds": setting and len(setting.jobs),
        "failed_seeds": setting and setting.failed,
        "mean": setting and setting.score,
        "mean_error": setting and setting.error,
        "difference_from_best": difference and -difference.mean,
        "half_width": difference and difference.half_width,
        "job": entry.name,
        "state": entry.state,
        **{f"setting:{key}": value for key, value in entry.settings.items()},
        "validation": result and result.validation,
        **{column: result and result.numbers.get(name) for column, name in NUMBERS.items()},
        "seconds": entry.seconds,
        "weights": result and result.weights,
        "source": result and result.source,
        "error": "; ".join(filter(None, [entry.error, *entry.damage])) or None,
        "note": "; ".join(entry.notes) or None,
    }


def as_csv(rows: Sequence[Row]) -> str:
    """Return the rows as CSV; a leading apostrophe keeps a spreadsheet from running a text as a formula."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        formulas = {k: f"'{v}" for k, v in row.items() if isinstance(v, str) and v[:1] in ("=", "+", "-", "@", "\t")}
        writer.writerow(row | formulas)
    return file.getvalue()
