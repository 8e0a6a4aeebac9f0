"""Priors p(z)."""

from vaelab.priors.standard_normal import StandardNormal

__all__ = [
    "StandardNormal",
]
