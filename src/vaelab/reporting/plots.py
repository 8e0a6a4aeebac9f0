"""Make the plots of a group as data for plotly. The page adds a legend; its script, colours, markers and error bars."""

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, Ranked
from vaelab.reporting.reading import is_number
from vaelab.reporting.settings import label_of, shown

MOST_LINES = 16
Jobs = list[Ranked]  # jobs that differ only in their seed; a line has one point for them
Plot = dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """Plots that share a legend.

    Attributes:
        plots: title → plot.
        legend: name of a line → number of its colour and marker.
        marked: whether the lines have markers.
        left_out: a sentence that counts the lines that are not drawn; empty if all are.
    """

    plots: dict[str, Plot]
    legend: dict[str, int]
    left_out: str
    marked: bool = True


class Axes:
    """How the plots of a sweep use its settings.

    Attributes:
        x: the setting on the x-axis: `latent_dim` if it differs, else the first numeric one, else the first, if any.
        lines: the settings whose values name a line. Jobs that share these values and x differ only in their seed.
        styles: line → number of its colour and marker, the same in all groups.
    """

    def __init__(self, report: Report) -> None:
        names = [name for name in report.columns if name != "seed"]
        values = {name: [e.settings[name] for e in report.entries if e.settings[name] is not None] for name in names}
        numeric = [name for name in names if all(map(is_number, values[name])) and len(set(values[name])) > 1]
        self.x = "latent_dim" if "latent_dim" in names else next(iter([*numeric, *names]), None)
        self.lines = [name for name in names if name != self.x]
        drawn = sorted({self.line(ranked) for group in report.groups for ranked in group.ranked})
        self.styles = {name: i for i, name in enumerate(drawn)}

    def line(self, ranked: Ranked) -> str:
        """Return the name of the line that a job belongs to."""
        return label_of({name: ranked.entry.settings.get(name) for name in self.lines})

    def position(self, ranked: Ranked) -> Any:
        """Return a job's position on the x-axis, as a number or as text."""
        value = ranked.entry.settings.get(self.x or "", "all jobs")
        return value if is_number(value) else escape(shown("", value))


@dataclass(frozen=True)
class Axis:
    """What one axis of a plot shows.

    Attributes:
        value: returns a job's value, or None.
    """

    title: str
    value: Callable[[Ranked], Any]

    def values(self, jobs: Jobs) -> list[Any]:
        """Return the jobs' values; leave out jobs without a value."""
        return [value for ranked in jobs if (value := self.value(ranked)) is not None]

    def mean(self, jobs: Jobs) -> Any:
        """Return the value that the jobs share, or the mean of their values; None if there is none."""
        values = self.values(jobs)
        return statistics.fmean(values) if len(set(values)) > 1 else next(iter(values), None)

    def spread(self, jobs: Jobs) -> float | None:
        """Return the standard error of the mean over seeds; None for a single seed."""
        values = [value for value in self.values(jobs) if is_number(value)]
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None


def lines_of(group: Group, axes: Axes) -> dict[str, list[Jobs]]:
    """Return name → points of each line, the line with the best setting first; points are sorted by x."""
    lines: dict[str, dict[Any, Jobs]] = {}
    for ranked in (job for setting in group.settings for job in setting.jobs):
        lines.setdefault(axes.line(ranked), {}).setdefault(axes.position(ranked), []).append(ranked)
    by_x = {name: sorted(points.items(), key=lambda p: (isinstance(p[0], str), p[0])) for name, points in lines.items()}
    return {name: [jobs for _, jobs in points] for name, points in by_x.items()}


def panel_of(group: Group, axes: Axes) -> Panel:
    """Return the score and active units over x, and rate against distortion, with the lines of the best settings."""
    found = lines_of(group, axes)
    lines = dict(sorted(list(found.items())[:MOST_LINES]))
    positions = {axes.position(jobs[0]) for points in lines.values() for jobs in points}
    over, along = Axis(escape(axes.x or ""), axes.position), f" by {axes.x}" if axes.x else ""

    def plot(x: Axis, y: Axis) -> Plot:
        data = [trace for name, points in lines.items() for trace in traces(name, points, axes.styles[name], x, y)]
        scale = scale_of(positions) if x is over else {}
        titles = [{"title": {"text": axis.title}} for axis in (x, y)]
        return {"data": data, "layout": {"xaxis": titles[0] | scale, "yaxis": titles[1]}}

    score = Axis(f"{group.score_name}, nats", number(group.by))
    rate = Axis("rate: KL, nats", number("rate"))
    distortion = Axis("distortion: −reconstruction, nats", number("distortion"))
    used = plot(over, Axis("active units", number("active_units")))
    if axes.x == "latent_dim":
        ends = sorted({size for trace in used["data"] for size in trace["x"] if is_number(size)})
        used["data"].append({"name": "all units", "x": ends, "y": ends})
    plots = {
        f"{group.score_name}{along}": plot(over, score),
        "Rate and distortion": plot(rate, distortion),
        f"Active units{along}{' (dotted: all units)' if axes.x == 'latent_dim' else ''}": used,
    }
    return Panel(plots, {name: axes.styles[name] for name in lines}, left_out(len(found)))


def left_out(count: int) -> str:
    """Say how many of so many lines are drawn; empty if all are."""
    return f"Drawn are {MOST_LINES} of {count} lines, those of the best settings." if count > MOST_LINES else ""


def traces(name: str, points: Sequence[Jobs], style: int, x: Axis, y: Axis) -> list[dict[str, Any]]:
    """Return a line of means over seeds with their standard errors, and a dot for each job behind a mean."""
    points = [jobs for jobs in points if y.values(jobs)]
    single = [ranked for jobs in points if len(jobs) > 1 for ranked in jobs if y.values([ranked])]
    line = {
        "x": [x.mean(jobs) for jobs in points],
        "y": [y.mean(jobs) for jobs in points],
        "x_spread": [x.spread(jobs) for jobs in points],
        "y_spread": [y.spread(jobs) for jobs in points],
        "text": [hover(name, jobs, y) for jobs in points],
    }
    dots = {
        "x": [x.value(ranked) for ranked in single],
        "y": [y.value(ranked) for ranked in single],
        "text": [escape(f"{ranked.entry.name}: {y.value(ranked):.4g}") for ranked in single],
        "single": True,
    }
    return [{"name": escape(name), "style": style} | trace for trace in (line, dots) if trace["y"]]


def scale_of(positions: Collection[Any]) -> dict[str, Any]:
    """Return plotly's options of an x-axis: categories, a linear or a log scale. Up to 8 values get a tick each."""
    if not positions or not all(map(is_number, positions)):
        return {"type": "category"}
    ticks = sorted(positions)
    scale = {"type": "log"} if ticks[0] > 0 and ticks[-1] / ticks[0] > 10 else {}
    return scale | ({"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]} if len(ticks) <= 8 else {})


def hover(name: str, jobs: Jobs, y: Axis) -> str:
    """Return the text of a point: its line, its value and its jobs."""
    values, spread = y.values(jobs), y.spread(jobs)
    value = f"{y.mean(jobs):.4g}"
    value += "" if spread is None else f" ± {spread:.2g} (standard error), mean of {len(values)} seeds"
    names = [escape(ranked.entry.name) for ranked in jobs]
    more = [f"and {len(names) - 6} more"] if len(names) > 6 else []
    return "<br>".join([f"<b>{escape(name)}</b>", value, *names[:6], *more])


def number(name: str) -> Callable[[Ranked], float | None]:
    """Return a function that looks up the metric `name` in a job's result."""
    return lambda ranked: ranked.result.numbers.get(name)
