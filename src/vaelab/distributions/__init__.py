"""Densities and masses that `torch.distributions` lacks, or computes badly in float32."""

from vaelab.distributions.logistic import Logistic
from vaelab.distributions.normal import Normal
from vaelab.distributions.quantised import Quantised

__all__ = [
    "Logistic",
    "Normal",
    "Quantised",
]
