"""Objectives: what training minimises, per example and in nats."""

from vaelab.objectives.base import Objective, Terms, closed_form_kl, kl_divergence, kl_per_dimension
from vaelab.objectives.coupled import InfoVAE, TotalCorrelation
from vaelab.objectives.elbo import ELBO
from vaelab.objectives.limited_kl import Capacity, FreeBits
from vaelab.objectives.wake_sleep import ReweightedWakeSleep, WakeSleep
from vaelab.objectives.warm_up import CyclicalWarmUp, LinearWarmUp
from vaelab.objectives.weight_prior import NormalWeightPrior
from vaelab.objectives.weighted import IWAE, DReG, Renyi, StickingTheLanding

__all__ = [
    "ELBO",
    "IWAE",
    "Capacity",
    "CyclicalWarmUp",
    "DReG",
    "FreeBits",
    "InfoVAE",
    "LinearWarmUp",
    "NormalWeightPrior",
    "Objective",
    "Renyi",
    "ReweightedWakeSleep",
    "StickingTheLanding",
    "Terms",
    "TotalCorrelation",
    "WakeSleep",
    "closed_form_kl",
    "kl_divergence",
    "kl_per_dimension",
]
