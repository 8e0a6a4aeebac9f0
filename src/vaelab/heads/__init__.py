"""Heads: modules that turn a network's features into a distribution. One file per family."""

from vaelab.heads.base import Head
from vaelab.heads.bernoulli import Bernoulli
from vaelab.heads.beta import Beta
from vaelab.heads.categorical import Categorical
from vaelab.heads.continuous_bernoulli import ContinuousBernoulli
from vaelab.heads.correlated import FullGaussian, LowRankGaussian, MixtureOfGaussians
from vaelab.heads.counts import NegativeBinomial, Poisson
from vaelab.heads.discretised import DiscretisedGaussian, DiscretisedLogistic
from vaelab.heads.flows import CouplingFlow, FlowHead, InverseAutoregressiveFlow, SplineFlow
from vaelab.heads.gaussian import DiagonalGaussian
from vaelab.heads.laplace import Laplace
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.logistic import Logistic
from vaelab.heads.logit_normal import LogitNormal
from vaelab.heads.mixture import Mixture, PointMass
from vaelab.heads.mixture_of_logistics import MixtureOfLogistics
from vaelab.heads.of_levels import OfLevels
from vaelab.heads.over_levels import OverLevels
from vaelab.heads.relaxed import RelaxedBernoulli, RelaxedCategorical
from vaelab.heads.scales import FixedScale, OptimalScale, PerPixelScale, Scale, SharedScale
from vaelab.heads.student_t import StudentT

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "ContinuousBernoulli",
    "CouplingFlow",
    "DiagonalGaussian",
    "DiscretisedGaussian",
    "DiscretisedLogistic",
    "FixedScale",
    "FlowHead",
    "FullGaussian",
    "Head",
    "InverseAutoregressiveFlow",
    "Laplace",
    "LocationScale",
    "Logistic",
    "LogitNormal",
    "LowRankGaussian",
    "Mixture",
    "MixtureOfGaussians",
    "MixtureOfLogistics",
    "NegativeBinomial",
    "OfLevels",
    "OptimalScale",
    "OverLevels",
    "PerPixelScale",
    "PointMass",
    "Poisson",
    "RelaxedBernoulli",
    "RelaxedCategorical",
    "Scale",
    "SharedScale",
    "SplineFlow",
    "StudentT",
]
