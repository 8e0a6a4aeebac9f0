"""Estimators of log p(x): per example, in nats, in bounded memory whatever the number of samples."""

from vaelab.estimators.annealed import AnnealedImportanceSampling
from vaelab.estimators.estimate import Estimate, Estimator, PointMassError
from vaelab.estimators.harmonic import HarmonicMean
from vaelab.estimators.importance import ImportanceSampling
from vaelab.estimators.several import Several

__all__ = [
    "AnnealedImportanceSampling",
    "Estimate",
    "Estimator",
    "HarmonicMean",
    "ImportanceSampling",
    "PointMassError",
    "Several",
]
