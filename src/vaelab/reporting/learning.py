"""Draw the learning curves of a group's settings."""

from html import escape

import numpy as np

from vaelab.reporting.groups import Group, Setting
from vaelab.reporting.plots import MOST_LINES, Panel, left_out
from vaelab.runs.folder.curves import Curve

MOST_POINTS = 100  # of a curve in the plot


def panel_of(group: Group) -> Panel | None:
    """Return a plot with the curves of the best settings, a colour for each and a line for each seed; None without."""
    settings = {s.label: s for s in group.settings if any(len(job.entry.curve) > 1 for job in s.jobs)}
    drawn = dict(list(settings.items())[:MOST_LINES])
    if not drawn:
        return None
    data = [_trace(setting, style) for style, setting in enumerate(drawn.values())]
    starts = [job.entry.curve[len(job.entry.curve) // 10 :] for s in drawn.values() for job in s.jobs]
    values = [value for curve in starts for _, value in curve]
    pad = 0.04 * (max(values) - min(values)) or 1.0
    axes = {"xaxis": {"title": {"text": "training samples seen"}}}
    axes |= {"yaxis": {"title": {"text": "validation ELBO, nats"}, "range": [min(values) - pad, max(values) + pad]}}
    plots = {"Learning curves": {"data": data, "layout": axes}}
    return Panel(plots, {name: style for style, name in enumerate(drawn)}, left_out(len(settings)), marked=False)


def _trace(setting: Setting, style: int) -> dict[str, object]:
    """Return the curves of all seeds as one line with gaps."""
    points: list[tuple[float | None, float | None]] = []
    for job in setting.jobs:
        points += [*((x, round(y, 3)) for x, y in thinned(job.entry.curve)), (None, None)]
    x, y = zip(*points[:-1], strict=True)
    return {"name": escape(setting.label), "style": style, "curve": True, "x": x, "y": y}


def thinned(curve: Curve) -> Curve:
    """Return at most `MOST_POINTS` points of a curve, evenly chosen, with the first and the last one."""
    if len(curve) <= MOST_POINTS:
        return curve
    return [curve[round(i)] for i in np.linspace(0, len(curve) - 1, MOST_POINTS)]
