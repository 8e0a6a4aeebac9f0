"""Published experiments, each repeated by one command: `python -m vaelab.reproduce NAME`."""

from vaelab.reproducing.aevb import BoundCurve, BoundCurves, Pictures
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.iwae import ImportanceWeighted
from vaelab.reproducing.latent_by_decoder import LatentByDecoder
from vaelab.reproducing.marginal_likelihood import MarginalCurve, MarginalLikelihoods
from vaelab.reproducing.results import Results, Row
from vaelab.reproducing.section_2_3 import Claims
from vaelab.reproducing.tables import Table
from vaelab.reproducing.vamp import Vamp

__all__ = [
    "BoundCurve",
    "BoundCurves",
    "Claims",
    "ImportanceWeighted",
    "Lab",
    "LatentByDecoder",
    "MarginalCurve",
    "MarginalLikelihoods",
    "Pictures",
    "Reproduction",
    "Results",
    "Row",
    "Table",
    "Vamp",
]
