"""Distributions that `torch.distributions` lacks or computes badly in float32, and functions of any distribution."""

from vaelab.distributions.ancestral import Ancestral
from vaelab.distributions.autoregressive import AutoregressiveLayer, autoregressive_layers
from vaelab.distributions.bernoulli import IndependentBernoulli
from vaelab.distributions.beta import Beta
from vaelab.distributions.continuous_bernoulli import ContinuousBernoulli
from vaelab.distributions.counts import NegativeBinomial, Poisson
from vaelab.distributions.discrete_latents import bernoullis, categoricals
from vaelab.distributions.flow import Flow
from vaelab.distributions.joint import (
    different_domains,
    domain,
    draw,
    mean_if_any,
    mean_or_sample,
    sample,
    sample_and_log_prob,
    scale_is_lost,
)
from vaelab.distributions.laplace import Laplace
from vaelab.distributions.levels import Levels, PixelMixture
from vaelab.distributions.log_scales import bounded_log_scale
from vaelab.distributions.logistic import Logistic
from vaelab.distributions.logit_normal import LogitNormal
from vaelab.distributions.mixture import PointMass, Stacked
from vaelab.distributions.mixture_of_normals import DiagonalMixture, MixtureOfNormals
from vaelab.distributions.multivariate_normal import MultivariateNormal
from vaelab.distributions.normal import Normal
from vaelab.distributions.quantised import Quantised
from vaelab.distributions.student_t import StudentT

__all__ = [
    "Ancestral",
    "AutoregressiveLayer",
    "Beta",
    "ContinuousBernoulli",
    "DiagonalMixture",
    "Flow",
    "IndependentBernoulli",
    "Laplace",
    "Levels",
    "Logistic",
    "LogitNormal",
    "MixtureOfNormals",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "PixelMixture",
    "PointMass",
    "Poisson",
    "Quantised",
    "Stacked",
    "StudentT",
    "autoregressive_layers",
    "bernoullis",
    "bounded_log_scale",
    "categoricals",
    "different_domains",
    "domain",
    "draw",
    "mean_if_any",
    "mean_or_sample",
    "sample",
    "sample_and_log_prob",
    "scale_is_lost",
]
