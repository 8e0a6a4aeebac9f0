"""Print the summary of a report on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaelab.reporting.gathering import Report


def show_report(report: Report, closing: str) -> None:
    """Print the state of the jobs, the best job of each group, what was left out and why, and `closing`."""
    states = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    table = Table("", "jobs", "best", "+-", "job", title=f"{report.name}: {states}", title_justify="left")
    table.columns[4].overflow = "fold"
    for column in table.columns[1:4]:
        column.justify = "right"
    for group in report.groups:
        best = group.ranked[0]
        value = "" if best.score is None else f"{best.score:.2f}"
        error, _ = best.error
        title = Text(group.title.replace(" · ", "\n"))
        cells = [str(len(group.ranked)), value, "" if error is None else f"{error:.3f}"]
        table.add_row(title, *cells, Text(best.entry.name))
    lines = [f"- {entry.name}: {reason}" for entry in report.entries for reason in [*entry.damage[:1], *entry.notes]]
    for group in report.groups:
        said = [f"the best is {group.ranked[0].meaning}"] if group.ranked[0].meaning else []
        lines += [f"- group {group.number}: {text}" for text in (*said, group.unranked) if text]
    console = Console()
    console.print(table)
    console.print(*lines, closing, sep="\n", highlight=False, soft_wrap=True, markup=False)
