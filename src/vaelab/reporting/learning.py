"""Draw the learning curves of a group's settings."""

from html import escape

import numpy as np

from vaelab.reporting.groups import Group, Setting
from vaelab.reporting.plots import MOST_LINES, Axes, Panel, left_out, titled
from vaelab.runs.folder.curves import Curve

MOST_POINTS = 100  # of a curve in the plot
ALL_POINTS = 10_000  # of all curves, so that a browser draws them in a moment


def learning_panel(group: Group, axes: Axes) -> Panel | None:
    """Return a plot with the curves of the best settings, a style for each and a line for each seed; None without."""
    settings = {s.label: s for s in group.settings if any(len(job.entry.curve) > 1 for job in s.jobs)}
    drawn = dict(list(settings.items())[:MOST_LINES])
    if not drawn:
        return None
    most = min(MOST_POINTS, max(2, ALL_POINTS // sum(len(setting.jobs) for setting in drawn.values())))
    styles = axes.curve_styles(list(drawn.values()))
    data = [_trace(setting, style, most) for setting, style in zip(drawn.values(), styles, strict=True)]
    starts = [job.entry.curve[len(job.entry.curve) // 10 :] for s in drawn.values() for job in s.jobs]
    values = [value for curve in starts for _, value in curve]
    pad = 0.04 * (max(values) - min(values)) or 1.0
    y_axis = titled("validation ELBO, nats") | {"range": [min(values) - pad, max(values) + pad]}
    plots = {"Learning curves": {"data": data, "layout": {"xaxis": titled("training samples seen"), "yaxis": y_axis}}}
    return Panel(plots, dict(zip(drawn, styles, strict=True)), left_out(len(settings)), marked=False)


def _trace(setting: Setting, style: int, most: int) -> dict[str, object]:
    """Return the curves of all seeds as one line with gaps, at most so many points of each."""
    points: list[tuple[float | None, float | None]] = []
    for job in setting.jobs:
        points += [*((x, round(y, 3)) for x, y in thinned(job.entry.curve, most)), (None, None)]
    x, y = zip(*points[:-1], strict=True)
    return {"name": escape(setting.label), "style": style, "curve": True, "x": x, "y": y}


def thinned(curve: Curve, most: int) -> Curve:
    """Return at most so many points of a curve, evenly chosen, with the first and the last one."""
    if len(curve) <= most:
        return curve
    return [curve[round(i)] for i in np.linspace(0, len(curve) - 1, most)]
