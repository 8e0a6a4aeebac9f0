"""The short table of a report, on a terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaelab.reporting.gathering import Report


def show_report(report: Report, closing: str) -> None:
    """Prints how the jobs stand, the best of each group that may be compared, and a last line."""
    states = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    table = Table("", "jobs", "best", "+-", "job", title=f"{report.name}: {states}", title_justify="left")
    table.columns[4].overflow = "fold"
    for column in table.columns[1:4]:
        column.justify = "right"
    for group in report.groups:
        best = group.ranked[0]
        value = "" if best.score is None else f"{best.score:.2f}"
        error = best.result.numbers.get("standard_error")
        title = Text(group.title.replace(" · ", "\n"))
        cells = [str(len(group.ranked)), value, "" if error is None else f"{error:.3f}"]
        table.add_row(title, *cells, Text(best.entry.name))
    console = Console()
    console.print(table)
    for entry in report.entries:
        for reason in [*entry.damage[:1], *entry.notes]:
            console.print(f"- {entry.name}: {reason}", highlight=False, soft_wrap=True, markup=False)
    for group in report.groups:
        if group.unranked:
            console.print(f"- {group.name}: {group.unranked}", highlight=False, soft_wrap=True, markup=False)
    console.print(closing, highlight=False, soft_wrap=True, markup=False)
