"""Print the summary of a report on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vaelab.reporting.gathering import Report


def show_report(report: Report, closing: str) -> None:
    """Print the state of the jobs, the best setting of each group, what was left out and why, and `closing`."""
    states = ", ".join(f"{count} {state}" for state, count in report.counts.items())
    table = Table("", "jobs", "best", "+-", "setting", title=f"{report.name}: {states}", title_justify="left")
    table.columns[4].overflow = "fold"
    for column in table.columns[1:4]:
        column.justify = "right"
    for group in report.groups:
        title, jobs = Text(group.title.replace(" · ", "\n")), str(len(group.ranked))
        if not group.settings:
            table.add_row(title, jobs, "", "", "")
            continue
        best = group.settings[0]
        error = "bound" if best.bounds else "" if best.error is None else f"{best.error:.2f}"
        table.add_row(title, jobs, f"{best.score:.2f}", error, Text(best.label))
    lines = [f"- {caution}" for caution in report.cautions]
    lines += [f"- {entry.name}: {reason}" for entry in report.entries for reason in [*entry.damage[:1], *entry.notes]]
    for group in report.groups:
        said = report.headlines[group.number]
        lines += [f"- group {group.number}: {text}" for text in (*said, group.unranked) if text]
    console = Console()
    console.print(table)
    console.print(*lines, closing, sep="\n", highlight=False, soft_wrap=True, markup=False)
