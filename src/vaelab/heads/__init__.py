"""Heads: modules that turn a network's features into a distribution. One file per family."""

from vaelab.heads.base import Head
from vaelab.heads.bernoulli import Bernoulli
from vaelab.heads.correlated import FullGaussian, LowRankGaussian
from vaelab.heads.gaussian import DiagonalGaussian
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.logistic import Logistic
from vaelab.heads.over_levels import OverLevels
from vaelab.heads.scales import FixedScale, OptimalScale, PerPixelScale, Scale, SharedScale

__all__ = [
    "Bernoulli",
    "DiagonalGaussian",
    "FixedScale",
    "FullGaussian",
    "Head",
    "LocationScale",
    "Logistic",
    "LowRankGaussian",
    "OptimalScale",
    "OverLevels",
    "PerPixelScale",
    "Scale",
    "SharedScale",
]
