"""Build the table of jobs: rows of plain values, which `report.csv`, `report.json` and W&B share."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from vaelab.reporting.groups import Group
from vaelab.reporting.reading import Entry, Result

METRICS = (
    *("log_likelihood", "standard_error", "elbo", "reconstruction", "kl", "active_units"),
    *("log_likelihood_bits_per_dim", "pareto_k_bad", "amortization_gap", "approximation_gap"),
)
NUMBERS = {name.removeprefix("log_likelihood_"): name for name in METRICS}  # column of the files → declared metric
Row = dict[str, Any]


def rows_of(entries: Sequence[Entry], groups: Sequence[Group]) -> list[Row]:
    """Return a row for each result, group by group and best first, and then one for each job without results."""
    rows = [_row(r.entry, r.result, group.number, r.rank) for group in groups for r in group.ranked]
    return rows + [_row(entry) for entry in entries if not entry.results]


def _row(entry: Entry, result: Result | None = None, group: int | None = None, rank: int | None = None) -> Row:
    return {
        "group": group,
        "rank": rank,
        "job": entry.name,
        "state": entry.state,
        **{f"setting:{key}": value for key, value in entry.settings.items()},
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
