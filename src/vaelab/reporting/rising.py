"""Say which settings were trained too short: their validation bound still rises at the end."""

from collections.abc import Sequence

import numpy as np

from vaelab.reporting.groups import Group
from vaelab.reporting.headline import first_few
from vaelab.runs.folder.curves import Curve

FEWEST = 6  # points that tell a parabola from noise
CHANCE = 0.01  # how often a curve without a trend counts as rising
SHARE = 0.01  # of what a curve gained in all; a smaller rise at the end does not matter, nor one of
LEAST = 0.01  # nats
RISE = np.array([1 - 0.8**2, 1 - 0.8, 0.0])  # of a parabola's three terms, between 80 % and 100 % of training


def still_rising(group: Group) -> str:
    """Name the settings whose validation bound still rose at the end of training; empty if none did."""
    rises = [(setting.name, rise_at_the_end([job.entry.curve for job in setting.jobs])) for setting in group.settings]
    found = [f"{name} (by {rise:.2g} nats)" for name, rise in rises if rise is not None]
    if not found:
        return ""
    return f"the validation bound still rose in the last fifth of training: {first_few(found)}; train longer"


def rise_at_the_end(curves: Sequence[Curve]) -> float | None:
    """Return by how much the curves of a setting's seeds rise in their last fifth, on average; None if they do not.

    The rise is that of a parabola, fitted to the last half of each curve by least squares. It counts if Student's t of
    the residuals leaves less than `CHANCE` to a curve without a trend, and if it exceeds `LEAST`, and `SHARE` of what
    the curves gained since their first point.
    """
    from scipy.special import stdtrit  # of Student's t; slow to import

    ends = [_end(curve) for curve in curves if len(curve) >= FEWEST]
    if not ends:
        return None
    rise, variance, freedom, gain = np.mean(ends, 0)
    error = (variance / len(ends)) ** 0.5 * stdtrit(freedom * len(ends), 1 - CHANCE)
    return float(rise) if rise > max(error, SHARE * gain, LEAST) else None


def _end(curve: Curve) -> tuple[float, float, int, float]:
    """Return a curve's rise in its last fifth, its variance and degrees of freedom, and the gain since the start."""
    seen, bound = np.array(curve).T
    y = bound[-max(FEWEST, len(curve) // 2) :]
    terms = np.vander(seen[-len(y) :] / seen[-1], len(RISE))
    fit = np.linalg.pinv(terms)
    weights, freedom = RISE @ fit, len(y) - len(RISE)
    noise = ((y - terms @ (fit @ y)) ** 2).sum() / freedom
    return weights @ y, noise * (weights @ weights), freedom, bound[-1] - bound[0]
