"""Draw the plots of a group as plotly's JSON. `meta.style` numbers a line's colour, which the page's theme chooses."""

import json
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, Ranked
from vaelab.reporting.reading import is_number

MOST_LINES = 16
MOST_NAMES = 6  # of jobs in the text of a point
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
DASHES = ("solid", "dash", "dot")
Jobs = list[Ranked]  # that differ in their seed only: one point of a line
Plot = dict[str, Any]


@dataclass(frozen=True)
class Axes:
    """How the plots of a sweep use its settings.

    Attributes:
        x: the setting on the x-axis; None if no setting differs.
        lines: the settings that name a line. Jobs that share these and x differ in their seed only.
    """

    x: str | None
    lines: Sequence[str]

    def line(self, ranked: Ranked) -> str:
        """Return the name of the line that a job belongs to."""
        return ", ".join(shown(name, ranked.entry.settings.get(name)) for name in self.lines) or "all jobs"

    def position(self, ranked: Ranked) -> Any:
        """Return a job's position on the x-axis, as a number or as text."""
        value = ranked.entry.settings.get(self.x or "", "all jobs")
        return value if is_number(value) else escape(shown("", value))


@dataclass(frozen=True)
class Axis:
    """What one axis of a plot shows.

    Attributes:
        value: a job's value, if it has one.
        error: the error of a job's value, for the bar of a point of one job.
    """

    title: str
    value: Callable[[Ranked], Any]
    error: Callable[[Ranked], float | None] = lambda ranked: None

    def values(self, jobs: Jobs) -> list[Any]:
        """Return the values of the jobs that have one."""
        return [value for ranked in jobs if (value := self.value(ranked)) is not None]

    def mean(self, jobs: Jobs) -> Any:
        """Return the value that the jobs share, or the mean of their values; None if there is none."""
        values = self.values(jobs)
        return statistics.fmean(values) if len(set(values)) > 1 else next(iter(values), None)

    def spread(self, jobs: Jobs) -> float | None:
        """Return the standard deviation over seeds; for one seed the error of its value, if it has one."""
        values = [value for value in self.values(jobs) if is_number(value)]
        return statistics.stdev(values) if len(values) > 1 else self.error(jobs[0])

    def bars(self, points: Sequence[Jobs]) -> dict[str, Any] | None:
        """Return the error bars of the points; None if no point has any."""
        array = [self.spread(jobs) for jobs in points]
        return {"type": "data", "thickness": 1.2, "width": 4, "array": array} if any(array) else None


def axes_of(report: Report) -> Axes:
    """Put `latent_dim` on the x-axis if it differs, else the first numeric setting that does, else the first."""
    names = [name for name in report.columns if name != "seed"]
    values = {name: [e.settings[name] for e in report.entries if e.settings[name] is not None] for name in names}
    numeric = [name for name in names if all(map(is_number, values[name])) and len(set(values[name])) > 1]
    x = "latent_dim" if "latent_dim" in names else next(iter([*numeric, *names]), None)
    return Axes(x, [name for name in names if name != x])


def styles_of(groups: Sequence[Group], axes: Axes) -> dict[str, int]:
    """Number the lines of the sweep, so that a line has the same colour and marker in every plot."""
    return {name: i for i, name in enumerate(sorted({name for group in groups for name in lines_of(group, axes)}))}


def lines_of(group: Group, axes: Axes) -> dict[str, list[Jobs]]:
    """Return name → points of each line, the line with the best job first; points are sorted by x."""
    lines: dict[str, dict[Any, Jobs]] = {}
    for ranked in group.ranked:
        lines.setdefault(axes.line(ranked), {}).setdefault(axes.position(ranked), []).append(ranked)
    in_order = {name: sorted(points, key=lambda x: (isinstance(x, str), x)) for name, points in lines.items()}
    return {name: [lines[name][x] for x in xs] for name, xs in in_order.items()}


def plots_of(group: Group, axes: Axes, styles: Mapping[str, int]) -> dict[str, Plot]:
    """Return title → plot: the score and active units over x, and rate against distortion.

    Args:
        group: the jobs to plot; at most `MOST_LINES` lines are drawn, those with the best jobs.
        axes: of the sweep.
        styles: line → number of its colour and marker, the same in all groups.
    """
    lines = dict(sorted(list(lines_of(group, axes).items())[:MOST_LINES]))
    positions = {axes.position(jobs[0]) for points in lines.values() for jobs in points}
    over, along = Axis(escape(axes.x or ""), axes.position), f" by {axes.x}" if axes.x else ""
    error = number("standard_error" if group.by == "log_likelihood" else "sampling_error")

    def plot(x: Axis, y: Axis) -> Plot:
        data = [trace for name, points in lines.items() for trace in traces(name, points, styles[name], x, y)]
        scale = scale_of(positions) if x is over else {}
        titles = [{"title": {"text": axis.title}} for axis in (x, y)]
        return {"data": data, "layout": {"xaxis": titles[0] | scale, "yaxis": titles[1]}}

    used = plot(over, Axis("active units", number("active_units")))
    if axes.x == "latent_dim":
        ends = sorted({size for trace in used["data"] for size in trace["x"] if is_number(size)})
        look = {"mode": "lines", "line": {"width": 1, "dash": "dot"}, "hoverinfo": "skip"}
        used["data"].append({"name": "all units", "x": ends, "y": ends, **look})
    distortion = Axis("distortion: −reconstruction, nats", number("distortion"))
    return {
        f"{group.score_name}{along}": plot(over, Axis(f"{group.score_name}, nats", number(group.by), error)),
        "Rate and distortion": plot(Axis("rate: KL, nats", number("rate")), distortion),
        f"Active units{along}": used,
    }


def traces(name: str, points: Sequence[Jobs], style: int, x: Axis, y: Axis) -> list[dict[str, Any]]:
    """Return a line of means over seeds with their standard deviations, and dots of the single jobs."""
    points = [jobs for jobs in points if y.values(jobs)]
    single = [ranked for jobs in points if len(jobs) > 1 for ranked in jobs if y.values([ranked])]
    common = {"meta": {"style": style}, "name": escape(name), "legendgroup": name}
    common |= {"hovertemplate": "%{text}<extra></extra>"}
    line = {
        "x": [x.mean(jobs) for jobs in points],
        "y": [y.mean(jobs) for jobs in points],
        "error_x": x.bars(points),
        "error_y": y.bars(points),
        "text": [hover(name, jobs, y) for jobs in points],
        "mode": "lines+markers",
        "line": {"width": 1.8, "dash": DASHES[style // len(SYMBOLS) % len(DASHES)]},
        "marker": {"size": 8, "symbol": SYMBOLS[style % len(SYMBOLS)]},
    }
    dots = {
        "x": [x.value(ranked) for ranked in single],
        "y": [y.value(ranked) for ranked in single],
        "text": [escape(f"{ranked.entry.name}: {y.value(ranked):.4g}") for ranked in single],
        "mode": "markers",
        "marker": {"size": 4, "opacity": 0.55},
        "showlegend": False,
    }
    return [common | trace for trace in (line, dots) if trace["y"]]


def scale_of(positions: Collection[Any]) -> dict[str, Any]:
    """Return the kind of an x-axis: categories, numbers or logarithms, with a tick at each value if they are few."""
    if not all(map(is_number, positions)):
        return {"type": "category"}
    ticks = sorted(positions)
    scale = {"type": "log"} if ticks[0] > 0 and ticks[-1] / ticks[0] > 10 else {}
    return scale | ({"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]} if len(ticks) <= 8 else {})


def hover(name: str, jobs: Jobs, y: Axis) -> str:
    """Return the text of a point: its line, its value and its jobs."""
    values, spread = y.values(jobs), y.spread(jobs)
    kind, seeds = ("sd", f" mean of {len(values)} seeds") if len(values) > 1 else ("standard error", "")
    value = f"{y.mean(jobs):.4g}" + ("" if spread is None else f" ± {spread:.3g} ({kind})") + seeds
    names = [escape(ranked.entry.name) for ranked in jobs]
    more = [f"and {len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return "<br>".join([f"<b>{escape(name)}</b>", value, *names[:MOST_NAMES], *more])


def number(name: str) -> Callable[[Ranked], float | None]:
    """Return a function that looks up a number of a job's result."""
    return lambda ranked: ranked.result.numbers.get(name)


def shown(name: str, value: Any) -> str:
    """Return `name=value`, or the value alone if it is a word."""
    if isinstance(value, str):
        return value
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
    return f"{name}={text}" if name else text
