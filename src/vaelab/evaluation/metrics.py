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
    """Means of `elbo`, `reconstruction` and `kl` in nats, and the bound as `bits_per_dim` where pixels have those."""
    found = {metric.name: records.mean(metric.name) for metric in ELBO.metrics}
    return found | _in_bits({"bits_per_dim": found["elbo"]}, data, head)


def summary(records: Records, estimators: Mapping[str, Estimator], data: ImageData, head: Head) -> Metrics:
    """All that a test tells of a split, flat, in nats where nothing else is said.

    Besides `bound_summary` and `latent_summary`: `rate` and `distortion`, KL and minus reconstruction
    under their names in Alemi et al. (2018); `num_examples`; `sampling_error`, how far the bound of another split of as
    many examples would typically lie from this one's, likewise `rate_error` and `distortion_error`; and
    `estimate_summary` of each estimator.

    Args:
        records: what the module found.
        estimators: by what the names of their values begin with.
        data, head: what was served, and which pixels are modelled.
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
            bits = bits_per_dim(own["log_mass"], data.event_shape, "mass", "levels", data.num_levels)
            own["log_mass_bits_per_dim"] = bits
        found |= {prefix + name: value for name, value in own.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}  # one example has no spread


def estimate_summary(columns: Mapping[str, Tensor], estimator: Estimator) -> Metrics:
    """What an estimator says of a split: the mean `log_likelihood`, and what to think of it.

    - `standard_error`: of that mean, from the estimator's own samples: `sqrt(sum_n s_n^2) / N`; `bias`: its mean;
    - `log_likelihood_sampling_error`: how far the mean over as many other examples would typically lie;
    - `effective_sample_size`, `acceptance_rate`: means; `r_hat`: the largest;
    - `pareto_k`: the median; `pareto_k_bad`: the share of examples above what so many samples can bear;
    - `simulated_lower`, `simulated_upper`: mean bounds on log p(x) of examples of the model's own;
      `simulated_gap`: their mean difference, with `simulated_gap_error`;
    - `log_mass`: over several dequantisations, a bound on the log-probability of the levels, with its error, and
      `log_mass_effective_sample_size`, the draws of the noise that it rests on;
    - `undefined`: of how many examples it can say nothing, if there are any; they are left out of all others.
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
    protocol = (data.event_shape, head.measure, head.pixels, data.num_levels)
    return {name: bits_per_dim(value, *protocol) for name, value in nats.items()}
