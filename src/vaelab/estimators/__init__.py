"""Estimators of log p(x), per example."""

from typing import Any

from vaelab.estimators.annealed import AnnealedImportanceSampling
from vaelab.estimators.base import Estimate, Estimator, Several
from vaelab.estimators.harmonic import HarmonicMean
from vaelab.estimators.importance import ImportanceSampling
from vaelab.estimators.refined import RefinedImportanceSampling
from vaelab.vae import VAE

__all__ = [
    "AnnealedImportanceSampling",
    "Estimate",
    "Estimator",
    "HarmonicMean",
    "ImportanceSampling",
    "RefinedImportanceSampling",
    "Several",
]
_public: list[Any] = [globals()[name] for name in __all__]
# name on command lines → class
BY_NAME: dict[str, Any] = {kind.name: kind for kind in _public if hasattr(kind, "name") and hasattr(kind, "refusal")}


def refused(vae: VAE) -> set[str]:
    """Return the names of the estimators that do not work for this model."""
    return {name for name, kind in BY_NAME.items() if kind().refusal(vae)}
