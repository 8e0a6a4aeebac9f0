"""What an evaluation's numbers say of each other, in plain words."""

import math
from collections.abc import Mapping

from vaelab.estimators import Estimator
from vaelab.estimators.weights import threshold

Metrics = Mapping[str, float]
POOR = 0.05  # share of examples that a proposal may fail
TIGHT = 0.1  # nats between bounds from both sides
MIXED = 1.1  # R-hat
NEAR = 0.5  # nats between a mutual information and its limit


def verdicts(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Sentences on what can be trusted, and what to type where something cannot.

    Args:
        metrics: of `vaelab.summary.summary`.
        estimators: by what the names of their metrics begin with.
    """
    found = []
    for prefix, estimator in estimators.items():
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        found += [f"{estimator.label}: {sentence}" for sentence in on_estimate(own)]
    return found + on_agreement(metrics, estimators) + on_latent(metrics)


def on_estimate(own: Metrics) -> list[str]:
    """On one estimator's numbers: its proposal, its bias, its bounds from both sides, its chains."""
    found = []
    if "undefined" in own:
        found.append(f"of {own['undefined']:.0f} examples it can say nothing; they are left out of its mean")
    if "pareto_k_bad" in own:
        share, limit = own["pareto_k_bad"], threshold(int(own["num_samples"]))
        if share > POOR:
            found.append(
                f"q(z|x) is too poor a proposal for {share:.0%} of the examples (Pareto k above {limit:.2f}): their "
                "log p(x) is too low, and so is its standard error; estimator=ais does not need q"
            )
        elif share > 0:
            found.append(
                f"Pareto k is above {limit:.2f} for {share:.1%} of the examples: their log p(x) may be too low"
            )
        else:
            found.append(f"q(z|x) is a good proposal for every example (Pareto k below {limit:.2f})")
    bias, error = own.get("bias", 0.0), own.get("standard_error", 0.0)
    if abs(bias) > max(2 * error, 0.01):
        remedy = "a larger num_samples=" if "num_samples" in own else "more chains"
        found.append(f"biased by about {bias:+.3f} nats, more than its standard error {error:.3f}: it takes {remedy}")
    if "simulated_gap" in own:
        gap, spread = own["simulated_gap"], own.get("simulated_gap_error", math.inf)
        verdict = "too few of them to tell, it takes a larger estimator.num_simulated"
        if gap + 2 * spread < TIGHT:
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


def on_agreement(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Whether several estimators agree, and which is loose: those that bound log p(x) from below cannot be too high."""
    estimators = {prefix: e for prefix, e in estimators.items() if f"{prefix}log_likelihood" in metrics}
    if len(estimators) < 2:
        return []
    best = max((p for p, e in estimators.items() if e.unbiased), key=lambda p: metrics[f"{p}log_likelihood"])
    found = []
    for prefix, estimator in estimators.items():
        if prefix == best:
            continue
        gap = metrics[f"{best}log_likelihood"] - metrics[f"{prefix}log_likelihood"]
        error = sum(metrics.get(f"{p}standard_error", 0.0) ** 2 for p in (best, prefix)) ** 0.5
        pair = f"{estimators[best].label} and {estimator.label}"
        if abs(gap) <= 2 * error:
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
    return f", with a bias of about {metrics.get(f'{prefix}bias', 0.0):+.3f} nats"


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
