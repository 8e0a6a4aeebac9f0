"""The plots of a group of jobs that may be compared, as plotly's figures; colours are the page's, by `meta`."""

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
    """What the plots of a sweep have along x, and what makes a line of its own.

    Attributes:
        x: a setting, or None where nothing differs.
        lines: the settings whose values name a line; jobs that share them and x differ by their seed.
    """

    x: str | None
    lines: tuple[str, ...]

    def line(self, ranked: Ranked) -> str:
        """The name of the line that a job belongs to."""
        return ", ".join(shown(name, ranked.entry.settings.get(name)) for name in self.lines) or "all jobs"

    def at(self, ranked: Ranked) -> Any:
        """Where along x a job lies."""
        return None if self.x is None else ranked.entry.settings.get(self.x)


@dataclass(frozen=True)
class Point:
    """Jobs that differ by their seed alone, at a place on a line."""

    x: Any
    jobs: list[Ranked]


def axes_of(report: Report) -> Axes:
    """`latent_dim` if it differs, else the first number that does; replicates are told from each other by `seed`."""
    names = [name for name in report.columns if name != "seed"]
    values = {name: [e.settings[name] for e in report.entries if e.settings[name] is not None] for name in names}
    numeric = [name for name in names if all(map(is_number, values[name])) and len(set(values[name])) > 1]
    x = "latent_dim" if "latent_dim" in names else next(iter([*numeric, *names]), None)
    return Axes(x, tuple(name for name in names if name != x))


def plots_of(group: Group, axes: Axes, slots: Mapping[str, int]) -> dict[str, go.Figure]:
    """By title: log p(x) and active units along x, and rate against distortion.

    Args:
        group: whose jobs share the axes of a plot; no other group's do.
        axes: of the sweep.
        slots: line → number of its colour, the same in all groups.
    """
    lines = lines_of(group, axes)
    score, error = group.score_name, number("standard_error" if group.by == "log_likelihood" else "sampling_error")
    active = number("active_units")
    along = f" by {axes.x}" if axes.x else ""

    def drawn(x_title: str, y_title: str, x: Value | None, y: Value, error: Value | None) -> go.Figure:
        figure = go.Figure(layout=go.Layout(template={}, xaxis_title=x_title, yaxis_title=y_title))
        for name, points in lines.items():
            add_line(figure, name, points, slots[name], x, y, error)
        if x is None:
            scale_x(figure, [point.x for points in lines.values() for point in points])
        return figure

    distortion = drawn("rate: KL, nats", "distortion: −reconstruction, nats", number("kl"), _distortion, None)
    used = drawn(escape(axes.x or ""), "active units", None, active, None)
    if axes.x == "latent_dim":
        add_all_units(used, [point.x for points in lines.values() for point in points if values_of(active, point.jobs)])
    return {
        f"{score}{along}": drawn(escape(axes.x or ""), f"{score}, nats", None, _score, error),
        "Rate and distortion": distortion,
        f"Active units{along}": used,
    }


def lines_of(group: Group, axes: Axes) -> dict[str, list[Point]]:
    """The lines that are drawn, those with the best jobs first, by their names; each along x."""
    found: dict[str, dict[Any, Point]] = {}
    for ranked in group.ranked:
        points = found.setdefault(axes.line(ranked), {})
        at = axes.at(ranked)
        points.setdefault(json.dumps(at, default=str), Point(at, [])).jobs.append(ranked)
    best = list(found.items())[:MOST_LINES]
    return {name: sorted(points.values(), key=_order) for name, points in sorted(best)}


def add_line(
    figure: go.Figure, name: str, points: Sequence[Point], slot: int, x: Value | None, y: Value, error: Value | None
) -> None:
    """Means over seeds with standard deviations; of a single seed the value, with the error of its estimate.

    Args:
        x: what lies along x where it is no setting.
        error: of a single job's y.
    """
    told = [(point, values) for point in points if (values := values_of(y, point.jobs))]
    if not told:
        return
    xs = [mean(values_of(x, point.jobs)) if x else label_of(point.x) for point, _ in told]
    spread = [deviation(values, point.jobs, error) for point, values in told]
    style = {
        "meta": {"slot": slot},
        "legendgroup": name,
        "name": escape(name),
        "hovertemplate": "%{text}<extra></extra>",
    }
    figure.add_scatter(
        x=xs,
        y=[mean(values) for _, values in told],
        error_y=BARS | {"array": spread},
        error_x=None
        if x is None
        else BARS | {"array": [deviation(values_of(x, p.jobs), p.jobs, None) for p, _ in told]},
        text=[hover(name, point, y, spread[i]) for i, (point, _) in enumerate(told)],
        mode="lines+markers",
        line={"width": 1.8, "dash": DASHES[slot // len(SYMBOLS) % len(DASHES)]},
        marker={"size": 8, "symbol": SYMBOLS[slot % len(SYMBOLS)]},
        **style,
    )
    single = [(point, job) for point, _ in told if len(point.jobs) > 1 for job in point.jobs if y(job) is not None]
    if single:
        figure.add_scatter(
            x=[x(job) if x else label_of(point.x) for point, job in single],
            y=[y(job) for _, job in single],
            text=[escape(f"{job.entry.name}: {y(job):.4g}") for _, job in single],
            mode="markers",
            marker={"size": 4, "opacity": 0.55},
            showlegend=False,
            **style,
        )


def add_all_units(figure: go.Figure, sizes: Iterable[Any]) -> None:
    """The line on which every dimension of the latent is active."""
    ends = sorted({size for size in sizes if is_number(size)})
    style: dict[str, Any] = {"line": {"width": 1, "dash": "dot"}, "hoverinfo": "skip", "meta": {}}
    figure.add_scatter(x=ends, y=ends, mode="lines", name="all units", **style)


def scale_x(figure: go.Figure, values: Iterable[Any]) -> None:
    """Ticks at the values themselves where they are few, and a logarithm where they span more than a decade."""
    found = list(values)
    if not all(map(is_number, found)):
        figure.update_xaxes(type="category")
        return
    ticks = sorted(set(found))
    if ticks and ticks[0] > 0 and ticks[-1] / ticks[0] > 10:
        figure.update_xaxes(type="log")
    if len(ticks) <= 8:
        figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def hover(name: str, point: Point, y: Value, spread: float | None) -> str:
    """What a point says: its line, its value, and the jobs behind it."""
    values = values_of(y, point.jobs)
    kind = f"± {spread:.3g} ({'sd' if len(values) > 1 else 'standard error'})" if spread is not None else ""
    jobs = [escape(ranked.entry.name) for ranked in point.jobs]
    more = [f"and {len(jobs) - 6} more"] if len(jobs) > 6 else []
    over = f"mean of {len(values)} seeds" if len(values) > 1 else ""
    return "<br>".join([f"<b>{escape(name)}</b>", f"{mean(values):.4g} {kind} {over}".strip(), *jobs[:6], *more])


def number(name: str) -> Value:
    """A number of a result, by its name."""
    return lambda ranked: ranked.result.numbers.get(name)


def values_of(value: Value, jobs: Iterable[Ranked]) -> list[float]:
    """Of those jobs that have one."""
    return [found for job in jobs if (found := value(job)) is not None]


def mean(values: Sequence[float]) -> float | None:
    """Of nothing, None."""
    return statistics.fmean(values) if values else None


def deviation(values: Sequence[float], jobs: Sequence[Ranked], error: Value | None) -> float | None:
    """The standard deviation over seeds; the estimate's own error where there is one seed."""
    if len(values) > 1:
        return statistics.stdev(values)
    return values_of(error, jobs)[0] if error is not None and values_of(error, jobs) else None


def label_of(value: Any) -> Any:
    """A place along x: a number, or a text."""
    return value if is_number(value) else escape("all jobs" if value is None else shown("", value))


def shown(name: str, value: Any) -> str:
    """A setting as a part of a name: what is a word stands for itself."""
    if isinstance(value, str):
        return value
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
    return f"{name}={text}" if name else text


def _score(ranked: Ranked) -> float | None:
    return ranked.score


def _distortion(ranked: Ranked) -> float | None:
    found = ranked.result.numbers.get("reconstruction")
    return None if found is None else -found


def _order(point: Point) -> tuple[bool, Any]:
    return (False, point.x) if is_number(point.x) else (True, str(point.x))
