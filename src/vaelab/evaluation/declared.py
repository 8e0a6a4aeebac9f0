"""Every metric of a run, declared once: tables, the report, W&B and the documentation read these."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vaelab.metric import Metric
from vaelab.objectives import ELBO
from vaelab.objectives.base import LOSS, OWN_BOUND

_bits = partial(Metric, unit="bits/dim", form=".3f", better="lower")
_count = partial(Metric, unit="", form=",.0f")
_error = partial(Metric, form=".3f", better="lower")

OF_BOUND = (
    *ELBO.metrics,
    _bits("bits_per_dim", "ELBO in bits per dimension", meaning="the ELBO; binary pixels have none"),
    Metric(OWN_BOUND, "bound of the objective", better="higher", meaning="the trained objective's own bound, if any"),
    Metric("rate", "rate", meaning="the KL, under its name in Alemi et al. (2018)"),
    Metric("distortion", "distortion", better="lower", meaning="minus the reconstruction, likewise"),
    _error("sampling_error", "error of the ELBO", meaning="standard error of `elbo` over examples"),
    _error("rate_error", "error of the rate", meaning="standard error of `rate` over examples"),
    _error("distortion_error", "error of the distortion", meaning="standard error of `distortion` over examples"),
    _count("num_examples", "examples", meaning="examples of the split that were evaluated"),
)
OF_LATENT = (
    Metric("mutual_information", "mutual information", meaning="I_q(x; z) of the examples at hand, at most log N"),
    Metric("mutual_information_limit", "log N", meaning="the most that `mutual_information` can show"),
    _error("mutual_information_error", "error of it", meaning="its standard error over examples"),
    Metric("marginal_kl", "KL(q(z) || p(z))", meaning="KL of the aggregate posterior from the prior"),
    _error("marginal_kl_error", "error of it", meaning="its standard error over examples"),
    _count("active_units", "active units", meaning="latent dimensions whose posterior mean varies"),
    _count("latent_dim", "latent dimensions", meaning="dimensions of z"),
)
OF_ESTIMATE = (
    Metric("log_likelihood", "log p(x)", better="higher", meaning="estimate of log p(x), a mean over examples"),
    _error("standard_error", "± of draws", meaning="of that mean, from the estimator's own samples"),
    _error("log_likelihood_sampling_error", "± of examples", meaning="standard error of it over examples"),
    _bits("log_likelihood_bits_per_dim", "log p(x) in bits per dimension", meaning="the same in bits"),
    Metric("bias", "bias", form=".3f", meaning="how far it lies from log p(x), at least, as far as samples tell"),
    Metric("gain", "gain over the ELBO", better="higher", meaning="`log_likelihood` minus `elbo`"),
    _error("gain_error", "error of the gain", meaning="its standard error over examples, with the draws of both"),
    Metric("effective_sample_size", "effective samples", unit="", form=".1f", better="higher", meaning="per example"),
    _count("num_samples", "samples", meaning="samples of z per example"),
    Metric("pareto_k", "Pareto k", unit="", better="lower", meaning="median shape of the weights' tail"),
    Metric("pareto_k_bad", "bad k", unit="", form=".0%", better="lower", meaning="share of examples with a bad tail"),
    Metric("acceptance_rate", "acceptance", unit="", meaning="of Hamiltonian transitions"),
    Metric("r_hat", "R-hat", unit="", better="lower", meaning="the worst over examples; chains have mixed near 1"),
    Metric("simulated_lower", "own, lower bound", meaning="lower bound of log p(x) of the model's own examples"),
    Metric("simulated_upper", "own, upper bound", meaning="upper bound of the same"),
    Metric("simulated_gap", "own, gap", better="lower", meaning="their difference: how loose the estimator is there"),
    _error("simulated_gap_error", "error of the gap", meaning="its standard error over those examples"),
    Metric("log_mass", "log P(levels)", better="higher", meaning="bound on the mass of the levels"),
    _error("log_mass_standard_error", "± of it", meaning="its Monte Carlo error"),
    Metric("log_mass_effective_sample_size", "effective draws", unit="", form=".1f", meaning="draws that it rests on"),
    _bits("log_mass_bits_per_dim", "log P(levels) in bits per dimension", meaning="the same in bits"),
    _count("undefined", "undefined", meaning="examples of which the estimator can say nothing"),
)
OF_TRAINING = (
    replace(LOSS, meaning="what training minimises, with the weight prior's share of each example"),
    Metric("learning_rate", "learning rate", unit="", form=".2g", meaning="for the next step, if it has a schedule"),
    _count("samples_seen", "training samples seen", meaning="training examples so far, the x of every curve"),
    _count("steps", "optimiser steps", meaning="optimiser steps so far"),
    _count("epochs", "epochs", meaning="epochs begun"),
    _count("skipped_steps", "undone steps", meaning="steps undone by `on_nan`, because a number was not finite"),
    Metric("seconds", "seconds", unit="", form=".1f", meaning="time that the run took, over all attempts"),
)
DECLARED = {metric.name: metric for metric in (*OF_BOUND, *OF_LATENT, *OF_ESTIMATE, *OF_TRAINING)}


def metric_of(name: str, own: Sequence[Metric] = ()) -> Metric:
    """Return a metric's declaration by its full name, such as `best/test/elbo`; `own` are the objective's metrics."""
    last = name.rpartition("/")[2]
    return (DECLARED | {metric.name: metric for metric in own}).get(last) or Metric(last, last)
