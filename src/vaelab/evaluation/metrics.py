"""From the values of single examples to the numbers of a split: means, their errors, and what can be said of both."""

import math
from collections.abc import Mapping

from torch import Tensor

from vaelab.data import ImageData
from vaelab.data.pixels import bits_per_dim
from vaelab.estimators import Estimator
from vaelab.estimators.importance_weights import threshold
from vaelab.evaluation.latent_usage import LATENT_VALUES, latent_summary, spread_of_mean
from vaelab.evaluation.per_example import Records
from vaelab.heads import Head
from vaelab.objectives import ELBO
from vaelab.objectives.base import OWN_BOUND

Metrics = dict[str, float]


def bound_summary(records: Records, data: ImageData, head: Head) -> Metrics:
    """Return the means of `elbo`, `reconstruction` and `kl` in nats, and `bits_per_dim` unless pixels are binary."""
    found = {metric.name: records.mean(metric.name) for metric in ELBO.metrics}
    return found | _in_bits({"bits_per_dim": found["elbo"]}, data, head)


def summary(records: Records, estimators: Mapping[str, Estimator], data: ImageData, head: Head) -> Metrics:
    """Return all metrics of a test, by name; `vaelab.evaluation.declared` says what each means.

    Args:
        records: the per-example values.
        estimators: each estimator, by the prefix of its metrics (`ais/`; empty for a single one).
        data, head: the data that were served, and the head that models their pixels.
    """
    found = bound_summary(records, data, head)
    if OWN_BOUND in records.names:
        found[OWN_BOUND] = records.mean(OWN_BOUND)
    found |= {"rate": found["kl"], "distortion": -found["reconstruction"]}
    found["num_examples"] = len(records.column("elbo"))
    spread = {"sampling_error": "elbo", "rate_error": "kl", "distortion_error": "reconstruction"}
    found |= {name: spread_of_mean(records.column(column)) for name, column in spread.items()}
    found |= latent_summary({name: records.column(name) for name in LATENT_VALUES if name in records.names})
    for prefix, estimator in estimators.items():
        names = [name.removeprefix(prefix) for name in records.names if name.startswith(prefix)]
        own = estimate_summary({name: records.column(prefix + name) for name in names}, estimator)
        if "log_likelihood" in own:
            own |= _in_bits({"log_likelihood_bits_per_dim": own["log_likelihood"]}, data, head)
        if "log_mass" in own:
            bits = bits_per_dim(own["log_mass"], data.event_shape, "levels", data.num_levels)
            own["log_mass_bits_per_dim"] = bits
        found |= {prefix + name: value for name, value in own.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}  # one example has no spread


def estimate_summary(columns: Mapping[str, Tensor], estimator: Estimator) -> Metrics:
    """Return the metrics of one estimator on a split, by name; `vaelab.evaluation.declared` says what each means.

    Most are means over examples. `standard_error` is that of the mean, `sqrt(sum_n s_n^2) / N`; `pareto_k` is a median,
    and `r_hat` the largest. Examples whose estimate is NaN are left out and counted as `undefined`.
    """
    defined = ~columns["log_likelihood"].isnan()
    undefined = int((~defined).sum())
    columns = {name: v[defined] if undefined and len(v) == len(defined) else v for name, v in columns.items()}
    found = {name: columns[name].mean().item() for name in MEANS if name in columns}
    found["log_likelihood_sampling_error"] = spread_of_mean(columns["log_likelihood"])
    found |= {name: _error(columns[name]) for name in ERRORS if name in columns}
    num_samples = getattr(estimator, "num_samples", None)
    if num_samples is not None:
        found["num_samples"] = num_samples
    found |= {"undefined": undefined} if undefined else {}
    if "r_hat" in columns:
        known = columns["r_hat"][~columns["r_hat"].isnan()]
        found |= {"r_hat": known.max().item()} if len(known) else {}
    if "pareto_k" in columns and num_samples is not None:
        median = columns["pareto_k"].median().item()
        found |= {"pareto_k": median} if math.isfinite(median) else {}  # without limit where weights underflow
        found["pareto_k_bad"] = (columns["pareto_k"] > threshold(num_samples)).double().mean().item()
    if "simulated_lower" in columns:
        gap = columns["simulated_upper"] - columns["simulated_lower"]
        found["simulated_gap"] = gap.mean().item()
        found["simulated_gap_error"] = spread_of_mean(gap)
    return {name: value for name, value in found.items() if not math.isnan(value)}  # one sample has no spread


MEANS = (
    *("log_likelihood", "bias", "effective_sample_size", "acceptance_rate"),
    *("simulated_lower", "simulated_upper", "log_mass", "log_mass_effective_sample_size"),
)
ERRORS = ("standard_error", "log_mass_standard_error")


def _error(standard_errors: Tensor) -> float:
    return standard_errors.square().sum().sqrt().item() / len(standard_errors)


def _in_bits(nats: Mapping[str, float], data: ImageData, head: Head) -> Metrics:
    if head.pixels == "binary":
        return {}
    protocol = (data.event_shape, head.pixels, data.num_levels)
    return {name: bits_per_dim(value, *protocol) for name, value in nats.items()}
