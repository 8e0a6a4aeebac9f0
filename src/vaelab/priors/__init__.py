"""Priors p(z)."""

from vaelab.priors.base import Prior
from vaelab.priors.discrete import Bernoulli, Categorical
from vaelab.priors.flow import FlowPrior
from vaelab.priors.learned import LearnedNormal, MixtureOfGaussians, VampPrior
from vaelab.priors.standard_normal import StandardNormal

__all__ = [
    "Bernoulli",
    "Categorical",
    "FlowPrior",
    "LearnedNormal",
    "MixtureOfGaussians",
    "Prior",
    "StandardNormal",
    "VampPrior",
]
