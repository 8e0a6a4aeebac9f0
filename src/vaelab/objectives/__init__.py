"""Objectives: what training minimises, per example and in nats."""

from vaelab.objectives.base import Objective, Terms, closed_form_kl, kl_divergence, kl_per_dimension
from vaelab.objectives.elbo import ELBO
from vaelab.objectives.weight_prior import NormalWeightPrior

__all__ = ["ELBO", "NormalWeightPrior", "Objective", "Terms", "closed_form_kl", "kl_divergence", "kl_per_dimension"]
