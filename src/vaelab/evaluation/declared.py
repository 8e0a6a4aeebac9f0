"""Declare each metric of a run once; tables, the report, W&B and the documentation read the declarations."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from vaelab.metric import Metric
from vaelab.objectives import ELBO
from vaelab.objectives.base import BOUND, LOSS

_bits = partial(Metric, unit="bits/dim", form=".3f", better="lower")
_count = partial(Metric, unit="", form=",.0f")
_error = partial(Metric, form=".3f", better="lower")
_share = partial(Metric, unit="", form=".1%")
_share_error = partial(_share, label="error of it", better="lower")

OF_BOUND = (
    *ELBO.metrics,
    _bits("bits_per_dim", "ELBO in bits per dimension", meaning="`elbo` in bits; binary pixels have none"),
    BOUND,
    Metric("rate", "rate", meaning="the KL, under its name in Alemi et al. (2018)"),
    Metric("distortion", "distortion", better="lower", meaning="minus `reconstruction`, as in Alemi et al. (2018)"),
    _error("sampling_error", "error of the ELBO", meaning="standard error of `elbo` over examples"),
    _error("rate_error", "error of the rate", meaning="standard error of `rate` over examples"),
    _error("distortion_error", "error of the distortion", meaning="standard error of `distortion` over examples"),
    _count("num_examples", "examples", meaning="examples of the split that were evaluated"),
)
OF_LATENT = (
    Metric("mutual_information", "mutual information", meaning="I_q(x; z) of the examples at hand, at most log N"),
    Metric("mutual_information_limit", "log N", meaning="upper limit of `mutual_information`"),
    _error("mutual_information_error", "error of it", meaning="standard error of `mutual_information` over examples"),
    Metric("marginal_kl", "KL(q(z) || p(z))", meaning="KL of the aggregate posterior from the prior"),
    _error("marginal_kl_error", "error of it", meaning="standard error of `marginal_kl` over examples"),
    Metric("fitted_elbo", "ELBO of the best q", better="higher", meaning="ELBO of a q(z|x) fitted to each example"),
    _error("fitted_elbo_error", "error of it", meaning="standard error of `fitted_elbo` over examples"),
    Metric("fitted_rate", "rate of the best q", meaning="KL of the fitted q(z|x) from the prior"),
    _error("fitted_rate_error", "error of it", meaning="standard error of `fitted_rate` over examples"),
    Metric("amortization_gap", "amortisation gap", better="lower", meaning="`fitted_elbo` minus the encoder's ELBO"),
    _error("amortization_gap_error", "error of it", meaning="standard error of `amortization_gap` over examples"),
    _count("active_units", "active units", meaning="latent dimensions whose posterior mean varies"),
    _count("latent_dim", "latent dimensions", meaning="dimensions of z"),
)
OF_PREDICTIONS = (
    _share("coverage_50", "inside 50 % intervals", meaning="share of pixels in the central 50 % interval of p(x|z)"),
    _share_error("coverage_50_error", meaning="standard error of `coverage_50` over examples"),
    _share("coverage_90", "inside 90 % intervals", meaning="share of pixels in the central 90 % interval of p(x|z)"),
    _share_error("coverage_90_error", meaning="standard error of `coverage_90` over examples"),
    _share("above_median", "above the median", meaning="share of pixels above the median of p(x|z)"),
    _share_error("above_median_error", meaning="standard error of `above_median` over examples"),
    _share("outside_range", "outside the range", better="lower", meaning="share of p(x|z) at values that no pixel has"),
    _share_error("outside_range_error", meaning="standard error of `outside_range` over examples"),
    _share("miscalibration", "miscalibration", better="lower", meaning="share of pixels in ranks that hold too many"),
    _share_error("miscalibration_error", meaning="standard error of `miscalibration` over examples"),
)
OF_ESTIMATE = (
    Metric("log_likelihood", "log p(x)", better="higher", meaning="estimate of log p(x), a mean over examples"),
    _error("standard_error", "± of draws", meaning="Monte Carlo standard error of `log_likelihood`"),
    _error(
        "log_likelihood_sampling_error", "± of examples", meaning="standard error of `log_likelihood` over examples"
    ),
    _bits("log_likelihood_bits_per_dim", "log p(x) in bits per dimension", meaning="`log_likelihood` in bits"),
    Metric("bias", "bias", form=".3f", meaning="the estimate's mean minus log p(x); its size may be larger"),
    Metric("gain", "gain over the ELBO", better="higher", meaning="`log_likelihood` minus `elbo`"),
    _error("gain_error", "error of the gain", meaning="standard error of `gain` over examples and draws"),
    Metric("approximation_gap", "approximation gap", better="lower", meaning="`log_likelihood` minus `fitted_elbo`"),
    _error("approximation_gap_error", "error of it", meaning="standard error of `approximation_gap` over examples"),
    _error("gap_difference_error", "error of it", meaning="that of `approximation_gap` minus `amortization_gap`"),
    Metric("effective_sample_size", "effective samples", unit="", form=".1f", better="higher", meaning="per example"),
    _count("num_samples", "samples", meaning="samples of z per example"),
    Metric("pareto_k", "Pareto k", unit="", better="lower", meaning="median shape of the weights' tail"),
    Metric("pareto_k_bad", "bad k", unit="", form=".0%", better="lower", meaning="share of examples with a bad tail"),
    Metric("acceptance_rate", "acceptance", unit="", meaning="acceptance rate of Hamiltonian transitions"),
    Metric("r_hat", "R-hat", unit="", better="lower", meaning="the worst over examples; chains have mixed near 1"),
    Metric("simulated_lower", "own, lower bound", meaning="lower bound of log p(x) on examples drawn from the model"),
    Metric("simulated_upper", "own, upper bound", meaning="upper bound of log p(x) on the same examples"),
    Metric("simulated_gap", "own, gap", better="lower", meaning="upper bound minus lower bound on these examples"),
    _error("simulated_gap_error", "error of the gap", meaning="standard error of `simulated_gap` over these examples"),
    Metric("log_mass", "log P(levels)", better="higher", meaning="lower bound on the log-mass of the levels"),
    _error("log_mass_standard_error", "± of it", meaning="Monte Carlo standard error of `log_mass`"),
    Metric("log_mass_effective_sample_size", "effective draws", unit="", form=".1f", meaning="effective noise draws"),
    _bits("log_mass_bits_per_dim", "log P(levels) in bits per dimension", meaning="`log_mass` in bits"),
    _count("undefined", "undefined", meaning="examples for which the estimator gives no estimate"),
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
DECLARED = {metric.name: metric for metric in (*OF_BOUND, *OF_LATENT, *OF_PREDICTIONS, *OF_ESTIMATE, *OF_TRAINING)}


def metric_of(name: str, own: Sequence[Metric] = ()) -> Metric:
    """Return a metric's declaration by its full name, such as `best/test/elbo`; `own` are the objective's metrics."""
    last = name.rpartition("/")[2]
    return (DECLARED | {metric.name: metric for metric in own}).get(last) or Metric(last, last)
