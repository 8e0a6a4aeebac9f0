"""Contours of a prior on a plane: lines around the densest regions that hold a given share of it."""

import math

import numpy as np
import torch
import torch.distributions as td
from matplotlib.figure import Figure
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

PERCENT = (50, 90, 99)  # of the prior, within its contours
POINTS = 201  # of the grid, along each axis
TOLERANCE = 0.01  # a line is drawn if the share of the prior inside it is right to this
BATCH = 2000

Line = list[list[float]]  # points [z1, z2]


def contours(prior: td.Distribution, drawn: Tensor, span: float) -> dict[int, list[Line]]:
    """Return the lines around the densest region of the plane that holds p % of the prior, for each p of `PERCENT`.

    Interpolate the log-density on a grid over the outermost region. Leave out a p if the grid is too coarse for it:
    if the lines do not hold p % of the samples.

    Args:
        prior: a distribution over a plane.
        drawn: samples from it.
        span: the width of the shown plane; points are rounded to less than a thousandth of it.
    """
    heights = prior.log_prob(drawn).double().numpy()
    levels = np.quantile(heights, [1 - p / 100 for p in PERCENT])
    inside = drawn[torch.from_numpy(heights >= levels.min())]
    low, high = inside.amin(0), inside.amax(0)
    margin = (high - low) / 10
    axes = [torch.linspace(a, b, POINTS) for a, b in zip(low - margin, high + margin, strict=True)]
    grid = torch.cat([prior.log_prob(z) for z in torch.cartesian_prod(*axes).split(BATCH)])
    density = grid.double().view(POINTS, POINTS).numpy()
    found = RegularGridInterpolator(axes, density, bounds_error=False, fill_value=-math.inf)(drawn.double().numpy())
    digits = 4 - math.ceil(math.log10(span))
    lines = {}
    for p, level in zip(PERCENT, levels, strict=True):
        if abs((found >= level).mean() - p / 100) < TOLERANCE:
            segments = Figure().subplots().contour(*axes, density.T, levels=[level]).allsegs[0]
            lines[p] = [np.asarray(segment).round(digits).tolist() for segment in segments]
    return lines
