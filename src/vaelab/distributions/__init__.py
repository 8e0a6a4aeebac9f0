"""Distributions that `torch.distributions` lacks or computes badly in float32, and functions of any distribution."""

from vaelab.distributions.bernoulli import IndependentBernoulli
from vaelab.distributions.beta import Beta
from vaelab.distributions.continuous_bernoulli import ContinuousBernoulli
from vaelab.distributions.counts import NegativeBinomial, Poisson
from vaelab.distributions.joint import draw, element_support, mean_or_sample, sample, sample_and_log_prob
from vaelab.distributions.laplace import Laplace
from vaelab.distributions.levels import Levels, PixelMixture
from vaelab.distributions.logistic import Logistic
from vaelab.distributions.logit_normal import LogitNormal
from vaelab.distributions.multivariate_normal import LowRankMultivariateNormal, MultivariateNormal
from vaelab.distributions.normal import Normal
from vaelab.distributions.quantised import Quantised
from vaelab.distributions.student_t import StudentT

__all__ = [
    "Beta",
    "ContinuousBernoulli",
    "IndependentBernoulli",
    "Laplace",
    "Levels",
    "Logistic",
    "LogitNormal",
    "LowRankMultivariateNormal",
    "MultivariateNormal",
    "NegativeBinomial",
    "Normal",
    "PixelMixture",
    "Poisson",
    "Quantised",
    "StudentT",
    "draw",
    "element_support",
    "mean_or_sample",
    "sample",
    "sample_and_log_prob",
]
