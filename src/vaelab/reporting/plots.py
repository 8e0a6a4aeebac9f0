"""Draw the plots of a group with plotly. `meta.style` numbers a line's colour, which the page takes from its theme."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group, Ranked
from vaelab.reporting.reading import is_number

MOST_LINES = 16
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon")
DASHES = ("solid", "dash", "dot")
BARS: dict[str, Any] = {"type": "data", "thickness": 1.2, "width": 4}
Value = Callable[[Ranked], float | None]


@dataclass(frozen=True)
class Axes:
    """How the plots of a sweep use its settings.

    Attributes:
        x: the setting on the x-axis; None if no setting differs.
        lines: the settings that name a line. Jobs that share these and x differ in their seed only.
    """

    x: str | None
    lines: tuple[str, ...]

    def line(self, ranked: Ranked) -> str:
        """Return the name of the line that a job belongs to."""
        return ", ".join(shown(name, ranked.entry.settings.get(name)) for name in self.lines) or "all jobs"

    def position(self, ranked: Ranked) -> Any:
        """Return a job's position on the x-axis."""
        return None if self.x is None else ranked.entry.settings.get(self.x)


@dataclass(frozen=True)
class Point:
    """Jobs that differ in their seed only: one point of a line."""

    x: Any
    jobs: list[Ranked]


def axes_of(report: Report) -> Axes:
    """Put `latent_dim` on the x-axis if it differs, else the first numeric setting that does, else the first."""
    names = [name for name in report.columns if name != "seed"]
    values = {name: [e.settings[name] for e in report.entries if e.settings[name] is not None] for name in names}
    numeric = [name for name in names if all(map(is_number, values[name])) and len(set(values[name])) > 1]
    x = "latent_dim" if "latent_dim" in names else next(iter([*numeric, *names]), None)
    return Axes(x, tuple(name for name in names if name != x))


def plots_of(group: Group, axes: Axes, styles: Mapping[str, int]) -> dict[str, go.Figure]:
    """Return title → plot: log p(x) and active units over x, and rate against distortion.

    Args:
        group: the jobs to plot.
        axes: of the sweep.
        styles: line → number of its colour and marker, the same in all groups.
    """
    lines = lines_of(group, axes)
    score, error = group.score_name, number("standard_error" if group.by == "log_likelihood" else "sampling_error")
    active = number("active_units")
    along = f" by {axes.x}" if axes.x else ""

    def plot(x_title: str, y_title: str, x: Value | None, y: Value, error: Value | None) -> go.Figure:
        figure = go.Figure(layout=go.Layout(template={}, xaxis_title=x_title, yaxis_title=y_title))
        for name, points in lines.items():
            add_line(figure, name, points, styles[name], x, y, error)
        if x is None:
            scale_x(figure, [point.x for points in lines.values() for point in points])
        return figure

    distortion = plot("rate: KL, nats", "distortion: −reconstruction, nats", number("kl"), _distortion, None)
    used = plot(escape(axes.x or ""), "active units", None, active, None)
    if axes.x == "latent_dim":
        add_all_units(used, [point.x for points in lines.values() for point in points if values_of(active, point.jobs)])
    return {
        f"{score}{along}": plot(escape(axes.x or ""), f"{score}, nats", None, _score, error),
        "Rate and distortion": distortion,
        f"Active units{along}": used,
    }


def lines_of(group: Group, axes: Axes) -> dict[str, list[Point]]:
    """Return name → points of the lines with the best jobs, at most `MOST_LINES`; points are sorted by x."""
    by_line: dict[str, dict[Any, Point]] = {}
    for ranked in group.ranked:
        points = by_line.setdefault(axes.line(ranked), {})
        x = axes.position(ranked)
        points.setdefault(json.dumps(x, default=str), Point(x, [])).jobs.append(ranked)
    best = list(by_line.items())[:MOST_LINES]
    return {name: sorted(points.values(), key=_order) for name, points in sorted(best)}


def add_line(
    figure: go.Figure, name: str, points: Sequence[Point], style: int, x: Value | None, y: Value, error: Value | None
) -> None:
    """Draw the means over seeds with their standard deviations, and the single jobs as dots.

    Args:
        x: the number on the x-axis; None for the setting of `Axes.x`.
        error: the error bar of a point that is a single job.
    """
    drawn = [(point, values) for point in points if (values := values_of(y, point.jobs))]
    if not drawn:
        return
    xs = [mean(values_of(x, point.jobs)) if x else label_of(point.x) for point, _ in drawn]
    spread = [deviation(values, point.jobs, error) for point, values in drawn]
    common = {
        "meta": {"style": style},
        "legendgroup": name,
        "name": escape(name),
        "hovertemplate": "%{text}<extra></extra>",
    }
    figure.add_scatter(
        x=xs,
        y=[mean(values) for _, values in drawn],
        error_y=BARS | {"array": spread},
        error_x=None
        if x is None
        else BARS | {"array": [deviation(values_of(x, p.jobs), p.jobs, None) for p, _ in drawn]},
        text=[hover(name, point, y, spread[i]) for i, (point, _) in enumerate(drawn)],
        mode="lines+markers",
        line={"width": 1.8, "dash": DASHES[style // len(SYMBOLS) % len(DASHES)]},
        marker={"size": 8, "symbol": SYMBOLS[style % len(SYMBOLS)]},
        **common,
    )
    single = [(point, job) for point, _ in drawn if len(point.jobs) > 1 for job in point.jobs if y(job) is not None]
    if single:
        figure.add_scatter(
            x=[x(job) if x else label_of(point.x) for point, job in single],
            y=[y(job) for _, job in single],
            text=[escape(f"{job.entry.name}: {y(job):.4g}") for _, job in single],
            mode="markers",
            marker={"size": 4, "opacity": 0.55},
            showlegend=False,
            **common,
        )


def add_all_units(figure: go.Figure, sizes: Iterable[Any]) -> None:
    """Draw the line on which every dimension of the latent is active."""
    ends = sorted({size for size in sizes if is_number(size)})
    style: dict[str, Any] = {"line": {"width": 1, "dash": "dot"}, "hoverinfo": "skip", "meta": {}}
    figure.add_scatter(x=ends, y=ends, mode="lines", name="all units", **style)


def scale_x(figure: go.Figure, values: Iterable[Any]) -> None:
    """Choose the x-axis: a category, a number or a logarithm, with a tick at each value if they are few."""
    values = list(values)
    if not all(map(is_number, values)):
        figure.update_xaxes(type="category")
        return
    ticks = sorted(set(values))
    if ticks and ticks[0] > 0 and ticks[-1] / ticks[0] > 10:
        figure.update_xaxes(type="log")
    if len(ticks) <= 8:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def hover(name: str, point: Point, y: Value, spread: float | None) -> str:
    """Return the hover text of a point: its line, its value and its jobs."""
    values = values_of(y, point.jobs)
    kind = f"± {spread:.3g} ({'sd' if len(values) > 1 else 'standard error'})" if spread is not None else ""
    jobs = [escape(ranked.entry.name) for ranked in point.jobs]
    more = [f"and {len(jobs) - 6} more"] if len(jobs) > 6 else []
    over = f"mean of {len(values)} seeds" if len(values) > 1 else ""
    return "<br>".join([f"<b>{escape(name)}</b>", f"{mean(values):.4g} {kind} {over}".strip(), *jobs[:6], *more])


def number(name: str) -> Value:
    """Return a function that looks up a number of a result by its name."""
    return lambda ranked: ranked.result.numbers.get(name)


def values_of(value: Value, jobs: Iterable[Ranked]) -> list[float]:
    """Return the values of the jobs that have one."""
    return [number for job in jobs if (number := value(job)) is not None]


def mean(values: Sequence[float]) -> float | None:
    """Return the mean; None for no values."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float], jobs: Sequence[Ranked], error: Value | None) -> float | None:
    """Return the standard deviation over seeds; for one seed the error of its estimate, if it has one."""
    if len(values) > 1:
        return statistics.stdev(values)
    return next(iter(values_of(error, jobs)), None) if error else None


def label_of(value: Any) -> Any:
    """Return a position on the x-axis as a number or as text."""
    return value if is_number(value) else escape("all jobs" if value is None else shown("", value))


def shown(name: str, value: Any) -> str:
    """Return `name=value`, or the value alone if it is a word."""
    if isinstance(value, str):
        return value
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
    return f"{name}={text}" if name else text


def _score(ranked: Ranked) -> float | None:
    return ranked.score


def _distortion(ranked: Ranked) -> float | None:
    reconstruction = ranked.result.numbers.get("reconstruction")
    return None if reconstruction is None else -reconstruction


def _order(point: Point) -> tuple[bool, Any]:
    return (False, point.x) if is_number(point.x) else (True, str(point.x))
