"""Render the report as one HTML page, which holds its style, its scripts and plotly.js, and loads nothing."""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from vaelab.evaluation.declared import metric_of
from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, describe_differences
from vaelab.reporting.pictures import Pictures
from vaelab.reporting.plots import MOST_LINES, Axes, axes_of, plots_of, shown
from vaelab.reporting.reading import is_number
from vaelab.reporting.table import NUMBERS

ASSETS = Path(__file__).parent / "assets"
MOST_VALUES = 12  # of a setting that has a filter


def render(report: Report, pictures: Pictures) -> str:
    """Return the page as HTML, with everything that comes from run folders escaped."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "number": number, "error": error, "setting": setting}
    scripts = [get_plotlyjs(), (ASSETS / "page.js").read_text(encoding="utf-8")]
    axes = axes_of(report)
    styles = styles_of(report.groups, axes)
    choices = choices_of(report)
    bits = any(group.has_bits for group in report.groups)
    return environment.get_template("page.html.jinja").render(
        report=report,
        pictures=pictures,
        without=[entry for entry in report.entries if not entry.results],
        noted=[entry for entry in report.entries if entry.notes],
        troubled=[e for e in report.entries if e.error or e.damage or e.log],
        choices=choices,
        numeric=[c for c in report.columns if all(is_number(e.settings[c]) for e in report.entries)],
        filter_values=lambda entry: {name: setting(entry.settings[name]) for name in choices},
        differences=describe_differences(report.groups),
        bits=bits,
        metrics=[metric_of(name) for name in NUMBERS.values() if bits or name != "log_likelihood_bits_per_dim"],
        plots={group.number: plots_as_data(group, axes, styles) for group in report.groups},
        crowded=[group.number for group in report.groups if is_crowded(group, axes)],
        most_lines=MOST_LINES,
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{hash_of(script)}'" for script in scripts),
        link=lambda name: f"./{quote(name)}/",
    )


def plots_as_data(group: Group, axes: Axes, styles: dict[str, int]) -> list[dict[str, Any]]:
    """Return the plots of a group in plotly's JSON format."""
    return [
        {"title": title, **json.loads(str(figure.to_json()))} for title, figure in plots_of(group, axes, styles).items()
    ]


def styles_of(groups: Sequence[Group], axes: Axes) -> dict[str, int]:
    """Number the lines of the sweep, so that a line has the same colour and marker in every plot."""
    names = sorted({axes.line(ranked) for group in groups for ranked in group.ranked})
    return {name: i for i, name in enumerate(names)}


def is_crowded(group: Group, axes: Axes) -> bool:
    """Return whether the group has more lines than its plots draw."""
    return len({axes.line(ranked) for ranked in group.ranked}) > MOST_LINES


def choices_of(report: Report) -> dict[str, list[str]]:
    """Return the settings that the page filters by, with their values."""
    choices = {}
    for name in report.columns:
        values = list(dict.fromkeys(setting(entry.settings[name]) for entry in report.entries))
        if 1 < len(values) <= MOST_VALUES:
            choices[name] = sorted(values, key=lambda value: (len(value), value))
    return choices


def hash_of(script: str) -> str:
    """Return the SHA-256 by which the page's Content-Security-Policy admits a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def setting(value: Any) -> str:
    """Return a setting's value as text."""
    return shown("", value)


def number(value: float | None, form: str = ".2f") -> str:
    """Format a number with a true minus sign; None becomes an empty text."""
    return "" if value is None else format(value, form).replace("-", "−")


def error(value: float | None) -> str:
    """Format an error to about two significant digits; None becomes an empty text."""
    return "" if value is None else f"{value:.{2 if value >= 0.1 else 3 if value >= 0.01 else 4}f}"


def duration(seconds: float) -> str:
    """Format a duration as `4 s`, `3 min 20 s` or `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60:02} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02} min"
