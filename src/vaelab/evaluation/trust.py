"""How far an estimate of log p(x) can be trusted, from the metrics of one estimator: its bias, and an interval."""

import math
from collections.abc import Mapping

from vaelab.estimators.importance_weights import FEWEST, threshold

Metrics = Mapping[str, float]  # of one estimator, named as in `vaelab.evaluation.declared`
POOR = 0.05  # a proposal is poor if it fails on a larger share of the examples
MIXED = 1.1  # chains have mixed if R-hat is below
ENOUGH = 10  # effective samples per example from which unchecked weights tell their bias


def is_poor(own: Metrics) -> bool:
    """Return whether the proposal fails on so many examples that the standard error means nothing."""
    return own.get("pareto_k_bad", 0) > POOR


def knows_bias(own: Metrics) -> bool:
    """Return whether `bias` is about the true bias; if not, the true one is larger, by an unknown amount.

    Weights with a heavy tail, or too few of them, have not shown the rare large weights that make up the bias.
    """
    if "pareto_k_bad" in own:
        return not is_poor(own)
    return own.get("r_hat", 1.0) <= MIXED and own.get("effective_sample_size", 0) >= ENOUGH


def interval(own: Metrics) -> tuple[float, float] | None:
    """Return an interval that holds the mean log p(x) of these examples about 95 % of the time or more.

    It begins two standard errors below the estimate and ends as far above it, and is wider by twice the bias, because
    the bias itself has an error. The side of an unknown bias is infinite. None for an estimate without an error.
    """
    if not {"standard_error", "bias"} <= own.keys():
        return None
    low, high = (own["log_likelihood"] + side * 2 * own["standard_error"] for side in (-1, 1))
    beyond = 2 * abs(own["bias"]) if knows_bias(own) else math.inf
    return (low, high + beyond) if own["bias"] <= 0 else (low - beyond, high)


def on_bias(own: Metrics) -> str:
    """Say in which direction an estimate is wrong, by how much at least, and where log p(x) lies; empty if unknown."""
    if (found := interval(own)) is None:
        return ""
    direction = "low" if own["bias"] <= 0 else "high"
    if knows_bias(own):
        return f"too {direction} by about {abs(own['bias']):.2g} nats, so log p(x) is {found[0]:.2f} to {found[1]:.2f}"
    end = f"at least {found[0]:.2f}" if direction == "low" else f"at most {found[1]:.2f}"
    return (
        f"too {direction} by at least {abs(own['bias']):.2g} nats, and its samples cannot tell by how much more: "
        f"log p(x) is {end}"
    )


def on_proposal(own: Metrics) -> str:
    """Say how good the proposal is; empty for an estimator that has no such check."""
    num_samples = int(own.get("num_samples", FEWEST))
    if num_samples < FEWEST:
        return f"the proposal is not checked, because that needs num_samples={FEWEST} or more"
    if "pareto_k_bad" not in own:
        return ""
    share, limit = own["pareto_k_bad"], threshold(num_samples)
    if share > 0:
        part = f"{share:.0%}" if is_poor(own) else f"only {share:.2%}"
        return f"the proposal is poor for {part} of the examples (Pareto k above {limit:.2f})"
    return f"the proposal is good for every example (Pareto k below {limit:.2f})"


def in_words(own: Metrics, by: str, worst: float) -> str:
    """Say what a score is, `log_likelihood` or `elbo`, and how far it can be trusted.

    Args:
        own: means over seeds.
        worst: `pareto_k_bad` of the seed with the worst proposal, which tells whether the bias is known.
    """
    if by == "elbo":
        return "the ELBO, a lower bound of log p(x)"
    bounds = own["bias"] <= 0 if "bias" in own else "num_samples" in own
    kind = f"{'a lower bound' if bounds else 'an estimate'} of log p(x)"
    with_k = f" with K = {own['num_samples']:.0f}" if "num_samples" in own else ""
    judged = {**own, "pareto_k_bad": worst} if "pareto_k_bad" in own else own
    return "; ".join(filter(None, [kind + with_k, on_proposal(own), on_bias(judged)]))
