"""Advice in plain words: which numbers of an evaluation can be trusted, and what to type where they cannot."""

import math
from collections.abc import Mapping

from vaelab.estimators import Estimator
from vaelab.estimators.importance_weights import threshold

Metrics = Mapping[str, float]
POOR = 0.05  # a proposal is poor if it fails on a larger share of the examples
FEW = 5  # with fewer effective samples an estimate is unreliable
TIGHT = 0.1  # nats; bounds from both sides are tight if they differ by less
MIXED = 1.1  # chains have mixed if R-hat is below this
NEAR = 0.5  # nats; a mutual information closer than this to its limit is saturated


def verdicts(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return sentences on a result of `metrics.summary`; the keys of `estimators` prefix their metrics."""
    sentences = []
    for prefix, estimator in estimators.items():
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        sentences += [f"{estimator.label}: {sentence}" for sentence in on_estimate(own)]
    return sentences + on_bound(metrics, estimators) + on_agreement(metrics, estimators) + on_latent(metrics)


def on_estimate(own: Metrics) -> list[str]:
    """Return sentences on one estimator: its proposal, its bias, its bounds from both sides, and its chains."""
    sentences = []
    if "undefined" in own:
        sentences.append(f"it gives no estimate for {own['undefined']:.0f} examples, which its mean leaves out")
    if "pareto_k_bad" in own:
        sentences.append(on_proposal(own["pareto_k_bad"], threshold(int(own["num_samples"]))))
    bias, error = own.get("bias", 0.0), own.get("standard_error", 0.0)
    if (effective := own.get("effective_sample_size", math.inf)) < FEW:
        sentences.append(
            f"an example has only {effective:.1f} effective samples on average: log p(x) may be wrong by much more "
            "than the standard error"
        )
    elif abs(bias) > max(2 * error, 0.01):
        remedy = "a larger num_samples=" if "num_samples" in own else "more chains"
        sentences.append(f"biased by about {bias:+.3f} nats, more than its standard error {error:.3f}: use {remedy}")
    if (effective := own.get("log_mass_effective_sample_size", math.inf)) < FEW:
        sentences.append(
            f"log P(levels) has only {effective:.1f} effective draws of the noise: it is a loose lower bound; "
            "type measure=mass, which draws no noise"
        )
    if "simulated_gap" in own:
        sentences.append(on_gap(own["simulated_gap"], own.get("simulated_gap_error", math.inf)))
    if own.get("r_hat", 1.0) > MIXED:
        sentences.append(
            f"chains of some examples have not mixed (R-hat up to {own['r_hat']:.2f}): use a larger "
            "estimator.num_burn_in or estimator.num_draws"
        )
    return sentences


def on_proposal(share: float, limit: float) -> str:
    """Return a sentence on q(z|x) as a proposal; `share` of the examples have a Pareto k above `limit`."""
    if share > POOR:
        return (
            f"q(z|x) is a poor proposal for {share:.0%} of the examples (Pareto k above {limit:.2f}): their log p(x) "
            "may be too low, and its standard error too; use a larger num_samples=, or estimator=ais, which does not "
            "need q"
        )
    if share > 0:
        return f"Pareto k is above {limit:.2f} for {share:.1%} of the examples: their log p(x) may be too low"
    return f"q(z|x) is a good proposal for every example (Pareto k below {limit:.2f})"


def on_gap(gap: float, error: float) -> str:
    """Return a sentence on the gap between the two bounds of examples drawn from the model."""
    verdict = "there are too few examples to tell, use a larger estimator.num_simulated"
    if gap < -3 * error:
        verdict = "the lower bound is above the upper bound, so trust neither"
    elif abs(gap) + 2 * error < TIGHT:
        verdict = "tight"
    elif gap - 2 * error > TIGHT:
        verdict = "loose, use a larger estimator.num_temperatures"
    bounds = f"its lower and upper bounds are {gap:.3f} +- {error:.3f} nats apart"
    return f"on examples drawn from the model {bounds}: {verdict}"


def on_bound(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return a sentence on each estimate below the ELBO, which is itself a lower bound of log p(x)."""
    largest = {p: metrics.get(f"{p}log_likelihood", math.inf) + 2 * _error(metrics, p, 0.0) for p in estimators}
    looser = [estimator.label for prefix, estimator in estimators.items() if largest[prefix] < metrics["elbo"]]
    return [f"{label} is looser than the ELBO: do not use its log p(x)" for label in looser]


def on_agreement(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return sentences on whether several estimators agree; of two lower bounds, the lower one is looser."""
    estimators = {prefix: e for prefix, e in estimators.items() if f"{prefix}log_likelihood" in metrics}
    bounds = [prefix for prefix, estimator in estimators.items() if estimator.unbiased]
    if not bounds:
        return []
    best = max(bounds, key=lambda prefix: metrics[f"{prefix}log_likelihood"])
    sentences = []
    for prefix, other in estimators.items():
        if prefix == best:
            continue
        gap = metrics[f"{best}log_likelihood"] - metrics[f"{prefix}log_likelihood"]
        error = math.hypot(_error(metrics, best), _error(metrics, prefix))
        differ = f"differ by {gap:.3f} +- {error:.3f} nats"
        if any(f"{p}undefined" in metrics for p in (best, prefix)):
            verdict = "are not compared: their means are over different examples"
        elif math.isnan(error):
            verdict = "cannot be compared: a single sample has no standard error"
        elif abs(gap) <= 2 * error:
            verdict = f"agree: {gap:+.3f} +- {error:.3f} nats"
        elif other.unbiased:
            looser = f"{other.label} is the looser one{_why(metrics, prefix)}"
            verdict = f"{differ}: both are lower bounds on average, so {looser}"
        else:
            verdict = f"{differ}; the latter is not a bound: trust the former"
        sentences.append(f"{estimators[best].label} and {other.label} {verdict}")
    return sentences


def _error(metrics: Metrics, prefix: str, default: float = math.nan) -> float:
    return metrics.get(f"{prefix}standard_error", default)


def _why(metrics: Metrics, prefix: str) -> str:
    share, gap, bias = (metrics.get(prefix + name, 0.0) for name in ("pareto_k_bad", "simulated_gap", "bias"))
    if share > 0:
        return f", with a proposal that fails {share:.1%} of the examples"
    if gap > 0:
        return f", by {gap:.3f} nats on examples drawn from the model"
    return f", with a bias of about {bias:+.3f} nats" if bias else ""


def on_latent(metrics: Metrics) -> list[str]:
    """Return sentences on posterior collapse, and on saturation of the mutual information."""
    sentences = []
    if "active_units" in metrics:
        active, size = int(metrics["active_units"]), int(metrics["latent_dim"])
        verdict = f"partial posterior collapse: {active} of {size} latent dimensions are active"
        if active == 0:
            verdict = f"posterior collapse: none of {size} latent dimensions is active; the decoder ignores z"
        elif active == size:
            verdict = f"no posterior collapse: all {size} latent dimensions are active"
        sentences.append(verdict)
    information, limit = metrics["mutual_information"], metrics["mutual_information_limit"]
    if information > limit - NEAR:
        sentences.append(
            f"the mutual information is saturated: N examples can show at most log N = {limit:.2f} nats, so the true "
            "value may be larger, and KL(q(z) || p(z)) smaller"
        )
    return sentences
