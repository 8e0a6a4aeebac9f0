"""Render the report as one self-contained HTML page, with its styles, scripts and plotly.js inline."""

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from plotly.offline import get_plotlyjs

from vaelab.evaluation.declared import metric_of
from vaelab.metric import Metric
from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, describe_differences
from vaelab.reporting.learning import learning_panel
from vaelab.reporting.pictures import Picture
from vaelab.reporting.plots import Axes, scores_panel
from vaelab.reporting.settings import setting_text
from vaelab.reporting.settings_table import NOTE, number
from vaelab.reporting.table import NUMBERS
from vaelab.reporting.template import environment
from vaelab.reporting.values import is_number

MOST_VALUES = 12  # a setting with more values has no filter
OF_SETTINGS = (  # beside the score
    *("rate", "distortion", "active_units", "log_likelihood_bits_per_dim", "pareto_k_bad"),
    *("amortization_gap", "approximation_gap"),
)


def render(report: Report, pictures: Sequence[Picture], left_out: str) -> str:
    """Return the page as HTML, with everything that comes from run folders escaped."""
    templates = environment()
    templates.filters |= {"duration": duration, "number": number, "error": error, "texts": texts}
    axes = Axes(report)
    known = [name for column, name in NUMBERS.items() if any(row[column] is not None for row in report.rows)]
    values = {name: {texts(entry.settings)[name] for entry in report.entries} for name in report.columns}
    return templates.get_template("page.html.jinja").render(
        report=report,
        pictures=pictures,
        left_out=left_out,
        troubled=[e for e in report.entries if e.error or e.damage or e.log],
        choices={name: sorted(found, key=lambda value: (len(value), value)) for name, found in values.items()},
        most_values=MOST_VALUES,
        numeric=[c for c in report.columns if all(is_number(e.settings[c]) for e in report.entries)],
        differences=describe_differences(report.groups),
        bits="log_likelihood_bits_per_dim" in known,
        metrics=[metric_of(name) for name in known or NUMBERS.values()],
        own_metrics={group.number: metrics_of(group) for group in report.groups},
        panels={
            group.number: list(filter(None, [scores_panel(group, axes), learning_panel(group, axes)]))
            for group in report.groups
        },
        note=NOTE,
        plotly=get_plotlyjs(),
        nonce=secrets.token_urlsafe(),  # the page runs only scripts with this nonce: ours
    )


def metrics_of(group: Group) -> list[Metric]:
    """Return the metrics of the table of settings that a setting of the group has."""
    return [metric_of(name) for name in OF_SETTINGS if any(s.mean(name) is not None for s in group.settings)]


def texts(settings: dict[str, Any]) -> dict[str, str]:
    """Return settings with each value as a text."""
    return {name: setting_text("", value) for name, value in settings.items()}


def error(value: float | None) -> str:
    """Format a standard error with two significant digits, or from 10 on as a whole number."""
    return number(value, "#.2g" if value is None or value < 10 else ".0f")


def duration(seconds: float) -> str:
    """Format a duration as `h:mm:ss`."""
    return str(timedelta(seconds=round(seconds)))
