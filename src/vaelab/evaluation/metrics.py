"""Summarise the per-example values of a split: means, their standard errors, and diagnostics."""

import math
from collections.abc import Mapping

from torch import Tensor

from vaelab.data import ImageData
from vaelab.estimators import Estimator
from vaelab.estimators.importance_weights import threshold
from vaelab.evaluation.declared import OF_ESTIMATE
from vaelab.evaluation.inference_gap import GAP_VALUES, gap_summary
from vaelab.evaluation.latent_usage import LATENT_VALUES, latent_summary, spread_of_mean
from vaelab.evaluation.per_example import Records
from vaelab.evaluation.predictive import CHECKED, predictive_summary
from vaelab.heads import Head
from vaelab.objectives import ELBO
from vaelab.objectives.base import BOUND
from vaelab.pixels import bits_per_dim

Metrics = dict[str, float]


def validated(head: Head) -> list[str]:
    """Return the names of the metrics of a validation, which callbacks can monitor."""
    return [metric.name for metric in ELBO.metrics] + ([] if head.pixels == "binary" else ["bits_per_dim"])


def bound_summary(records: Records, data: ImageData, head: Head) -> Metrics:
    """Return the means of `elbo`, `reconstruction` and `kl` in nats, and `bits_per_dim` unless pixels are binary."""
    found = {metric.name: records.mean(metric.name) for metric in ELBO.metrics}
    return found | _in_bits("bits_per_dim", found["elbo"], data, head.pixels)


def summary(records: Records, estimators: Mapping[str, Estimator], data: ImageData, head: Head) -> Metrics:
    """Return all metrics of a test, by name; `vaelab.evaluation.declared` says what each means."""
    found = bound_summary(records, data, head)
    if BOUND.name in records.names:
        found[BOUND.name] = records.mean(BOUND.name)
    found |= {"rate": found["kl"], "distortion": -found["reconstruction"]}
    found["num_examples"] = len(records.column("elbo"))
    spread = {"sampling_error": "elbo", "rate_error": "kl", "distortion_error": "reconstruction"}
    found |= {name: spread_of_mean(records.column(column)) for name, column in spread.items()}
    found |= latent_summary({name: records.column(name) for name in LATENT_VALUES if name in records.names})
    found |= predictive_summary(*map(records.column, CHECKED))
    found |= gap_summary({name: records.column(name) for name in GAP_VALUES if name in records.names})
    for prefix, estimator in estimators.items():
        names = [metric.name for metric in OF_ESTIMATE if prefix + metric.name in records.names]
        own = estimate_summary({name: records.column(prefix + name) for name in names}, estimator)
        estimate = records.column(f"{prefix}log_likelihood")
        above = {"gain": estimate - records.column("elbo")}
        if "fitted_elbo" in records.names:
            above["approximation_gap"] = estimate - records.column("fitted_elbo")
            # the errors of both gaps are not independent, because both contain the fitted ELBO
            difference = above["approximation_gap"] - records.column("amortization_gap")
            own["gap_difference_error"] = spread_of_mean(difference[~difference.isnan()])
        for name, values in above.items():
            defined = values[~values.isnan()]
            own |= {name: defined.mean().item(), f"{name}_error": spread_of_mean(defined)}
        own |= _in_bits("log_likelihood_bits_per_dim", own["log_likelihood"], data, head.pixels)
        if "log_mass" in own:
            own |= _in_bits("log_mass_bits_per_dim", own["log_mass"], data, "levels")
        found |= {prefix + name: value for name, value in own.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}  # a spread over one example is NaN


def estimate_summary(columns: Mapping[str, Tensor], estimator: Estimator) -> Metrics:
    """Return the metrics of one estimator on a split. A metric is NaN if there are too few examples or samples for it.

    Most are means over examples. Examples whose estimate is NaN are left out, and counted as `undefined`.
    """
    defined = ~columns["log_likelihood"].isnan()
    undefined = int((~defined).sum())
    columns = {name: v[defined] if undefined and len(v) == len(defined) else v for name, v in columns.items()}
    found = {name: _of_examples(name, values) for name, values in columns.items()}
    found["log_likelihood_sampling_error"] = spread_of_mean(columns["log_likelihood"])
    found |= {"undefined": undefined} if undefined else {}
    num_samples = getattr(estimator, "num_samples", None)
    if num_samples is not None:
        found["num_samples"] = num_samples
        if "pareto_k" in columns:
            found["pareto_k_bad"] = (columns["pareto_k"] > threshold(num_samples)).double().mean().item()
    if "simulated_lower" in columns:
        gap = columns["simulated_upper"] - columns["simulated_lower"]
        found |= {"simulated_gap": gap.mean().item(), "simulated_gap_error": spread_of_mean(gap)}
    return found


def _of_examples(name: str, values: Tensor) -> float:
    """Reduce the per-example values of a metric to one number.

    `r_hat` gives the maximum, `pareto_k` the median, and a standard error that of the mean. All others give the mean.
    """
    if name == "r_hat":
        return max(values[~values.isnan()].tolist(), default=math.nan)
    if name == "pareto_k":
        median = values.median().item()
        return median if math.isfinite(median) else math.nan  # k is infinite where weights underflow
    if name.endswith("standard_error"):
        return (values.square().sum().sqrt() / len(values)).item()
    return values.mean().item()


def _in_bits(name: str, nats: float, data: ImageData, pixels: str) -> Metrics:
    return {} if pixels == "binary" else {name: bits_per_dim(nats, data.event_shape, pixels, data.num_levels)}
