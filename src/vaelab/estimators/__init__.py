"""Estimators of log p(x), per example."""

from vaelab.estimators.annealed import AnnealedImportanceSampling
from vaelab.estimators.base import Estimate, Estimator, Several
from vaelab.estimators.harmonic import HarmonicMean
from vaelab.estimators.importance import ImportanceSampling
from vaelab.estimators.refined import RefinedImportanceSampling

__all__ = [
    "AnnealedImportanceSampling",
    "Estimate",
    "Estimator",
    "HarmonicMean",
    "ImportanceSampling",
    "RefinedImportanceSampling",
    "Several",
]
