"""What an evaluation's numbers say of each other, in plain words."""

import math
from collections.abc import Mapping

from vaelab.estimators import Estimator
from vaelab.estimators.importance_weights import threshold

Metrics = Mapping[str, float]
POOR = 0.05  # share of examples that a proposal may fail
FEW = 5  # effective samples
TIGHT = 0.1  # nats between bounds from both sides
MIXED = 1.1  # R-hat
NEAR = 0.5  # nats between a mutual information and its limit


def verdicts(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Sentences on what can be trusted, and what to type where something cannot.

    Args:
        metrics: of `vaelab.evaluation.metrics.summary`.
        estimators: by what the names of their metrics begin with.
    """
    found = []
    for prefix, estimator in estimators.items():
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        found += [f"{estimator.label}: {sentence}" for sentence in on_estimate(own)]
    return found + on_bound(metrics, estimators) + on_agreement(metrics, estimators) + on_latent(metrics)


def on_estimate(own: Metrics) -> list[str]:
    """On one estimator's numbers: its proposal, its bias, its bounds from both sides, its chains."""
    found = []
    if "undefined" in own:
        found.append(f"of {own['undefined']:.0f} examples it can say nothing; they are left out of its mean")
    found += on_proposal(own)
    bias, error = own.get("bias", 0.0), own.get("standard_error", 0.0)
    effective = own.get("effective_sample_size", math.inf)
    if effective < FEW:
        found.append(
            f"the samples of an example are worth {effective:.1f} on average: log p(x) may be off by much more than "
            "its error tells"
        )
    elif abs(bias) > max(2 * error, 0.01):
        remedy = "a larger num_samples=" if "num_samples" in own else "more chains"
        found.append(f"biased by about {bias:+.3f} nats, more than its standard error {error:.3f}: it takes {remedy}")
    if own.get("log_mass_effective_sample_size", math.inf) < FEW:
        found.append(
            f"log P(levels) rests on {own['log_mass_effective_sample_size']:.1f} effective draws of the noise: a lower "
            "bound, and a loose one; measure=mass has none of that noise"
        )
    if "simulated_gap" in own:
        gap, spread = own["simulated_gap"], own.get("simulated_gap_error", math.inf)
        verdict = "too few of them to tell, it takes a larger estimator.num_simulated"
        if gap < -3 * spread:
            verdict = "the wrong way round, so neither is to be trusted"
        elif abs(gap) + 2 * spread < TIGHT:
            verdict = "tight"
        elif gap - 2 * spread > TIGHT:
            verdict = "loose, it takes a larger estimator.num_temperatures"
        found.append(
            "on examples of the model's own its lower and upper bound lie "
            f"{gap:.3f} +- {spread:.3f} nats apart: {verdict}"
        )
    if own.get("r_hat", 1.0) > MIXED:
        found.append(
            f"chains of some examples have not mixed (R-hat up to {own['r_hat']:.2f}): it takes a larger "
            "estimator.num_burn_in or estimator.num_draws"
        )
    return found


def on_proposal(own: Metrics) -> list[str]:
    """On q(z|x) as a proposal, by the tails of the weights that it gives."""
    if "pareto_k_bad" not in own:
        return []
    share, limit = own["pareto_k_bad"], threshold(int(own["num_samples"]))
    if share > POOR:
        return [
            f"q(z|x) is a poor proposal for {share:.0%} of the examples (Pareto k above {limit:.2f}): their log p(x) "
            "may be too low, and its standard error too; it takes a larger num_samples=, or estimator=ais, which "
            "does not need q"
        ]
    if share > 0:
        return [f"Pareto k is above {limit:.2f} for {share:.1%} of the examples: their log p(x) may be too low"]
    return [f"q(z|x) is a good proposal for every example (Pareto k below {limit:.2f})"]


def on_bound(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """On estimates that lie below the ELBO, which bounds log p(x) as well."""
    found = []
    for prefix, estimator in estimators.items():
        value = metrics.get(f"{prefix}log_likelihood", math.inf)
        if value + 2 * metrics.get(f"{prefix}standard_error", 0.0) < metrics["elbo"]:
            found.append(f"{estimator.label} is looser than the ELBO itself: its log p(x) is not to be used")
    return found


def on_agreement(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Whether several estimators agree, and which is loose: those that bound log p(x) from below cannot be too high."""
    estimators = {prefix: e for prefix, e in estimators.items() if f"{prefix}log_likelihood" in metrics}
    bounds = [prefix for prefix, estimator in estimators.items() if estimator.unbiased]
    if len(estimators) < 2 or not bounds:
        return []
    best = max(bounds, key=lambda prefix: metrics[f"{prefix}log_likelihood"])
    found = []
    for prefix, estimator in estimators.items():
        if prefix == best:
            continue
        gap = metrics[f"{best}log_likelihood"] - metrics[f"{prefix}log_likelihood"]
        error = math.hypot(*(metrics.get(f"{p}standard_error", math.nan) for p in (best, prefix)))
        pair = f"{estimators[best].label} and {estimator.label}"
        if any(f"{p}undefined" in metrics for p in (best, prefix)):
            found.append(f"{pair} are not compared: their means are over different examples")
        elif math.isnan(error):
            found.append(f"{pair} cannot be compared: a single sample has no error")
        elif abs(gap) <= 2 * error:
            found.append(f"{pair} agree: {gap:+.3f} +- {error:.3f} nats")
        elif estimator.unbiased:
            found.append(
                f"{pair} differ by {gap:.3f} +- {error:.3f} nats: both are lower bounds on average, so "
                f"{estimator.label} is the looser one{_why(metrics, prefix)}"
            )
        else:
            found.append(f"{pair} differ by {gap:+.3f} +- {error:.3f} nats; the latter is no bound: trust the former")
    return found


def _why(metrics: Metrics, prefix: str) -> str:
    if metrics.get(f"{prefix}pareto_k_bad", 0.0) > 0:
        return f", with a proposal that fails {metrics[f'{prefix}pareto_k_bad']:.1%} of the examples"
    if metrics.get(f"{prefix}simulated_gap", 0.0) > 0:
        return f", by {metrics[f'{prefix}simulated_gap']:.3f} nats on examples of the model's own"
    return f", with a bias of about {metrics[f'{prefix}bias']:+.3f} nats" if f"{prefix}bias" in metrics else ""


def on_latent(metrics: Metrics) -> list[str]:
    """Collapse of the posterior, and saturation of the mutual information."""
    found = []
    if "active_units" in metrics:
        active, size = int(metrics["active_units"]), int(metrics["latent_dim"])
        if active == 0:
            found.append(f"posterior collapse: none of {size} latent dimensions is active; the decoder ignores z")
        elif active < size:
            found.append(f"partial posterior collapse: {active} of {size} latent dimensions are active")
        else:
            found.append(f"no posterior collapse: all {size} latent dimensions are active")
    information, limit = metrics["mutual_information"], metrics["mutual_information_limit"]
    if information > limit - NEAR:
        found.append(
            f"the mutual information is saturated: so many examples show at most log N = {limit:.2f} nats, so the "
            "true one may be larger, and KL(q(z) || p(z)) smaller"
        )
    return found
