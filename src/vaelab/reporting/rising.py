"""Say which settings were trained too short: their validation bound still rises at the end."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vaelab.reporting.groups import Group
from vaelab.reporting.headline import listed
from vaelab.runs.folder.curves import Curve

FEWEST = 3  # points in which a trend can be told from noise
SHARE = 0.01  # of what a curve gained in all; a smaller rise at the end does not matter, nor one of
LEAST = 0.01  # nats


def still_rising(group: Group) -> str:
    """Name the settings whose validation bound still rose at the end of training; empty if none did."""
    rises = [(setting.label, rise_at_the_end([job.entry.curve for job in setting.jobs])) for setting in group.settings]
    found = [f"{label} (by {rise:.2g} nats)" for label, rise in rises if rise is not None]
    return (
        f"the validation bound still rose in the last fifth of training: {listed(found)}; train longer" if found else ""
    )


def rise_at_the_end(curves: Sequence[Curve]) -> float | None:
    """Return by how much the curves of a setting's seeds rise in their last fifth, on average; None if they do not.

    A rise counts if it exceeds two standard errors, `SHARE` of what the curves gained since their first point, and
    `LEAST`. It is that of a straight line, fitted by least squares. The second differences of the last half of a curve
    tell the noise, because a straight line adds nothing to them.
    """
    ends = [_end(np.array(curve)) for curve in curves if len(curve) >= FEWEST]
    if not ends:
        return None
    rise, variance, gain = np.mean(ends, 0)
    return float(rise) if rise > max(2 * (variance / len(ends)) ** 0.5, SHARE * gain, LEAST) else None


def _end(curve: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return a curve's rise in its last fifth, the variance of this rise, and its gain since its first point."""
    seen, bound = curve.T
    x, y = (values[-max(FEWEST, len(curve) // 5) :] for values in (seen, bound))
    slope = np.polyfit(x - x.mean(), y, 1)[0]
    noise = np.diff(bound[-max(FEWEST, len(curve) // 2) :], 2)
    span, spread = x[-1] - x[0], ((x - x.mean()) ** 2).sum()
    return slope * span, float((noise**2).mean() / 6 * span**2 / spread), float(bound[-1] - bound[0])
