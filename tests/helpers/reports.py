"""What a report wrote, and what it would write."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

from vaelab.reporting.gathering import Report
from vaelab.reporting.plots import Axes, Plot, scores_panel


def stored_report(sweep: Path) -> dict[str, Any]:
    return json.loads((sweep / "report.json").read_text())


def page(sweep: Path) -> str:
    return (sweep / "report.html").read_text(encoding="utf-8")


def own_part(html: str) -> str:
    """The page without scripts and style, which are the same for all sweeps."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)


def plots(report: Report, group: int = 0) -> dict[str, Plot]:
    return scores_panel(report.groups[group], Axes(report)).plots


def cells(html: str) -> list[list[str]]:
    """Return the values of the page's table, row by row."""
    start = html.index('<table id="table"')
    table = html[start : html.index("</table>", start)]
    rows = re.findall(r"<tr data-state.*?</tr>", table, flags=re.DOTALL)
    return [[unescape(value) for value in re.findall(r'<td[^>]*data-value="([^"]*)"', row)] for row in rows]
