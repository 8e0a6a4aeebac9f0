"""Distributions that `torch.distributions` lacks or computes badly in float32, and functions of any distribution."""

from vaelab.distributions.bernoulli import IndependentBernoulli
from vaelab.distributions.joint import draw, mean_or_sample, sample_and_log_prob
from vaelab.distributions.logistic import Logistic
from vaelab.distributions.multivariate_normal import LowRankMultivariateNormal, MultivariateNormal
from vaelab.distributions.normal import Normal
from vaelab.distributions.quantised import Quantised

__all__ = [
    "IndependentBernoulli",
    "Logistic",
    "LowRankMultivariateNormal",
    "MultivariateNormal",
    "Normal",
    "Quantised",
    "draw",
    "mean_or_sample",
    "sample_and_log_prob",
]
