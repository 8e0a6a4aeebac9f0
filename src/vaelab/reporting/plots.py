"""Make the plots of a group as data for plotly. The page adds a legend; its script, colours, markers and error bars."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, Setting, spread
from vaelab.reporting.settings import label_of, setting_text
from vaelab.reporting.values import is_number

MOST_LINES = 16
COLOURS, DASHES = 8, 3  # of the page; line number i has colour i % 8 and dash i // 8 % 3
Plot = dict[str, Any]
Values = Callable[[Setting], list[float]]  # of each seed; a setting without any has no point


@dataclass(frozen=True)
class Panel:
    """Plots that share a legend."""

    plots: dict[str, Plot]  # title → plot
    legend: dict[str, int]  # name of a line → number of its colour and marker
    left_out: str  # a sentence that counts the lines that are not drawn; empty if all are
    marked: bool = True  # whether the lines have markers


class Axes:
    """How the plots of a sweep use its settings.

    Attributes:
        x: the setting on the x-axis: `latent_dim` if it differs, else the first numeric one, else the first, if any.
        lines: the settings whose values name a line. A line has a point for each setting, whose seeds make its error.
        styles: line → number of its colour and marker, the same in all groups.
    """

    def __init__(self, report: Report) -> None:
        names = [name for name in report.columns if name != "seed"]
        values = {name: [e.settings[name] for e in report.entries if e.settings[name] is not None] for name in names}
        numeric = [name for name in names if all(map(is_number, values[name])) and len(set(values[name])) > 1]
        self.x = "latent_dim" if "latent_dim" in names else next(iter([*numeric, *names]), None)
        self.lines = [name for name in names if name != self.x]
        drawn = sorted({self.line(setting) for group in report.groups for setting in group.settings})
        self.styles = {name: i for i, name in enumerate(drawn)}

    def line(self, setting: Setting) -> str:
        """Return the name of the line that a setting belongs to."""
        return label_of({name: setting.values.get(name) for name in self.lines})

    def position(self, setting: Setting) -> Any:
        """Return the position of a setting on the x-axis, as a number or as text."""
        value = setting.values.get(self.x or "", "all jobs")
        return value if is_number(value) else escape(setting_text("", value))

    def lines_of(self, group: Group) -> dict[str, list[Setting]]:
        """Return name → points of each line, the line with the best setting first; points are sorted by x."""
        lines: dict[str, list[Setting]] = {}
        for setting in group.settings:
            lines.setdefault(self.line(setting), []).append(setting)
        order = lambda setting: _numbers_first(self.position(setting))  # noqa: E731
        return {name: sorted(points, key=order) for name, points in lines.items()}

    def curve_styles(self, settings: Sequence[Setting]) -> list[int]:
        """Return the style of each setting's curve: the colour of its line, and a dash for its x.

        Where colours or dashes do not suffice, or all settings are on one line, each setting has a style of its own.
        """
        places = sorted({self.position(setting) for setting in settings}, key=_numbers_first)
        if not (1 < len(self.styles) <= COLOURS and len(places) <= DASHES):
            return list(range(len(settings)))
        return [self.styles[self.line(s)] + COLOURS * places.index(self.position(s)) for s in settings]


def _numbers_first(position: Any) -> tuple[bool, Any]:
    return isinstance(position, str), position


def scores_panel(group: Group, axes: Axes) -> Panel:
    """Return the score and active units over x, and rate against distortion, with the lines of the best settings."""
    found = axes.lines_of(group)
    lines = dict(sorted(list(found.items())[:MOST_LINES]))
    over, along = escape(axes.x or ""), f" by {axes.x}" if axes.x else ""

    def plot(x: str | None, x_title: str, y: str, y_title: str) -> Plot:
        place: Values = (lambda setting: [axes.position(setting)] * len(setting.jobs)) if x is None else values_of(x)
        data = [
            t for name, points in lines.items() for t in traces(name, points, axes.styles[name], place, values_of(y))
        ]
        scale = scale_of({axes.position(each) for points in lines.values() for each in points}) if x is None else {}
        return {"data": data, "layout": {"xaxis": titled(x_title) | scale, "yaxis": titled(y_title)}}

    used = plot(None, over, "active_units", "active units")
    if axes.x == "latent_dim":
        ends = sorted({size for trace in used["data"] for size in trace["x"] if is_number(size)})
        used["data"].append({"name": "all units", "x": ends, "y": ends})
    plots = {
        f"{group.score_name}{along}": plot(None, over, group.by, f"{group.score_name}, nats"),
        "Rate and distortion": plot("rate", "rate: KL, nats", "distortion", "distortion: −reconstruction, nats"),
        f"Active units{along}{' (dotted: all units)' if axes.x == 'latent_dim' else ''}": used,
    }
    return Panel(plots, {name: axes.styles[name] for name in lines}, left_out(len(found)))


def values_of(name: str) -> Values:
    """Return a function that looks up the values of a metric."""
    return lambda setting: setting.numbers(name)


def titled(text: str) -> Plot:
    """Return plotly's options of an axis with a title."""
    return {"title": {"text": text}}


def left_out(count: int) -> str:
    """Say how many of so many lines are drawn; empty if all are."""
    return f"Drawn are {MOST_LINES} of {count} lines, those of the best settings." if count > MOST_LINES else ""


def traces(name: str, points: Sequence[Setting], style: int, x: Values, y: Values) -> list[Plot]:
    """Return a line of means over seeds with their standard errors, and a dot for each job behind a mean.

    A setting of which a seed lacks a value is left out.
    """
    points = [setting for setting in points if x(setting) and y(setting)]
    several = [setting for setting in points if len(setting.jobs) > 1]
    line = {
        "x": [mean(x(setting)) for setting in points],
        "y": [mean(y(setting)) for setting in points],
        "x_spread": [spread(x(setting)) if is_number(x(setting)[0]) else None for setting in points],
        "y_spread": [spread(y(setting)) for setting in points],
        "text": [hover(name, setting, y(setting)) for setting in points],
    }
    dots = {
        "x": [value for setting in several for value in x(setting)],
        "y": [value for setting in several for value in y(setting)],
        "text": [
            escape(f"{job.entry.name}: {value:.4g}")
            for setting in several
            for job, value in zip(setting.jobs, y(setting), strict=True)
        ],
        "single": True,
    }
    return [{"name": escape(name), "style": style} | trace for trace in (line, dots) if trace["y"]]


def mean(values: Sequence[Any]) -> Any:
    """Return the value that all seeds share, which may be a text, or the mean of their values."""
    return fmean(values) if len(set(values)) > 1 else values[0]


def scale_of(positions: Collection[Any]) -> dict[str, Any]:
    """Return plotly's options of an x-axis: categories, a linear or a log scale. Up to 8 values get a tick each."""
    if not positions or not all(map(is_number, positions)):
        return {"type": "category"}
    ticks = sorted(positions)
    scale = {"type": "log"} if ticks[0] > 0 and ticks[-1] / ticks[0] > 10 else {}
    return scale | ({"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]} if len(ticks) <= 8 else {})


def hover(name: str, setting: Setting, values: Sequence[float]) -> str:
    """Return the text of a point: its line, its value and its jobs."""
    error = spread(values)
    value = f"{mean(values):.4g}"
    value += "" if error is None else f" ± {error:.2g} (standard error), mean of {len(values)} seeds"
    names = [escape(job.entry.name) for job in setting.jobs]
    more = [f"and {len(names) - 6} more"] if len(names) > 6 else []
    return "<br>".join([f"<b>{escape(name)}</b>", value, *names[:6], *more])
