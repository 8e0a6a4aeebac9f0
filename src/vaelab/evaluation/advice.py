"""Advice in plain words: which numbers of an evaluation can be trusted, and what to type where they cannot."""

import math
from collections.abc import Collection, Mapping

from vaelab.estimators import AnnealedImportanceSampling, Estimator, RefinedImportanceSampling
from vaelab.evaluation.predictive import COVERAGES, NUM_EXAMPLES, OUTSIDE
from vaelab.evaluation.trust import MIXED, is_poor, knows_bias, on_bias, on_proposal

Metrics = Mapping[str, float]
BETTER = (RefinedImportanceSampling.name, AnnealedImportanceSampling.name)  # where importance sampling is poor
NEGLIGIBLE = 0.01  # nats; a smaller bias is not worth a sentence
CHANCE = 0.001  # how often an estimate that is no looser than the ELBO is called looser
FEW = 5  # with fewer effective draws of the noise a mass is unreliable
TIGHT = 0.1  # nats; bounds from both sides are tight if they differ by less
MISFIT = 0.05  # a share of pixels that is closer to its nominal value is not worth a sentence
SMALL = 0.5  # nats; gaps that are surely smaller are not worth a change of the model
NEAR = 0.5  # nats; a mutual information this close to its limit, log N, may in truth be larger


def verdicts(metrics: Metrics, estimators: Mapping[str, Estimator], refused: Collection[str] = ()) -> list[str]:
    """Return sentences on a result of `metrics.summary`.

    Args:
        metrics: the result.
        estimators: by the prefixes of their metrics.
        refused: the names of the estimators that do not work for the model, and `mass` if that measure does not.
    """
    sentences, not_advised = [], {estimator.name for estimator in estimators.values()} | set(refused)
    for prefix, estimator in estimators.items():
        own = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
        sentences += [
            f"{estimator.label}: {sentence}" for sentence in on_estimate(own, prefix, not_advised, "num_samples")
        ]
    across = [on_bound, on_agreement, on_gaps]
    sentences += [sentence for on in across for sentence in on(metrics, estimators)]
    return sentences + on_latent(metrics) + on_predictions(metrics)


def on_estimate(own: Metrics, prefix: str, not_advised: Collection[str], num_samples: str = "") -> list[str]:
    """Return sentences on one estimator: its proposal, its bias, its bounds from both sides, and its chains.

    Args:
        prefix: of its metrics, such as `ais/`; empty if it is the only one.
        not_advised: the names of the estimators that were used, and of estimators and measures that cannot be advised.
        num_samples: the key of its number of samples on the command line, if that is not among its settings.
    """
    sentences, node = [], f"estimator.{prefix}".replace("/", ".")
    if "undefined" in own:
        sentences.append(f"it gives no estimate for {own['undefined']:.0f} examples, which its mean leaves out")
    sentences += filter(None, [on_proposal(own)])
    if (bias := on_bias(own)) and (is_poor(own) or matters(own)):
        others = " or ".join(name for name in BETTER if name not in not_advised and "num_samples" in own)
        key = num_samples or f"{node}num_samples" if "num_samples" in own else f"{node}num_chains"
        sentences.append(f"it is {bias}; use a larger {key}=" + (f", or estimator={others}" if others else ""))
    if (effective := own.get("log_mass_effective_sample_size", math.inf)) < FEW:
        instead = "a larger dequantizations=" if "mass" in not_advised else "measure=mass, which draws no noise"
        sentences.append(
            f"log P(levels) has only {effective:.1f} effective draws of the noise, which cannot tell how loose this "
            f"lower bound is: type {instead}"
        )
    if "simulated_gap" in own:
        sentences.append(on_gap(own["simulated_gap"], own.get("simulated_gap_error", math.inf), node))
    if own.get("r_hat", 1.0) > MIXED:
        sentences.append(
            f"chains of some examples have not mixed (R-hat up to {own['r_hat']:.2f}): use a larger "
            f"{node}num_burn_in or {node}num_draws"
        )
    return sentences


def matters(own: Metrics) -> bool:
    """Return whether the bias is larger than chance, or may be, because it is unknown."""
    bias, error = abs(own.get("bias", 0)), own.get("standard_error", math.inf)
    return bias > NEGLIGIBLE and (bias > 2 * error or not knows_bias(own))


def on_gap(gap: float, error: float, node: str) -> str:
    """Return a sentence on the gap between the two bounds of examples drawn from the model."""
    verdict = f"there are too few examples to tell, use a larger {node}num_simulated"
    if gap < -3 * error:
        verdict = "the lower bound is above the upper bound, so trust neither"
    elif abs(gap) + 2 * error < TIGHT:
        verdict = "tight"
    elif gap - 2 * error > TIGHT:
        verdict = f"loose, use a larger {node}num_temperatures"
    bounds = f"its lower and upper bounds are {gap:.3f} +- {error:.3f} nats apart"
    return f"on examples drawn from the model {bounds}: {verdict}"


def on_bound(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return a sentence on each estimate that lies below the ELBO, itself a lower bound, by more than chance explains.

    Chance makes such a verdict once in 1000 times: Student's t of the differences between both, example by example.
    """
    from scipy.stats import t  # slow to import

    sentences = []
    for prefix, estimator in estimators.items():
        gain, error = metrics.get(f"{prefix}gain"), metrics.get(f"{prefix}gain_error")
        examples = metrics["num_examples"] - metrics.get(f"{prefix}undefined", 0)
        if gain is not None and error is None:
            sentences.append(f"{estimator.label} is not checked against the ELBO, because that needs several examples")
        elif gain is not None and error is not None and gain < t.ppf(CHANCE, examples - 1) * error:
            by = f"by {-gain:.3f} +- {error:.3f} nats"
            sentences.append(f"{estimator.label} is looser than the ELBO, {by}: do not use its log p(x)")
    return sentences


def on_agreement(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return sentences on whether several estimators agree; of two lower bounds, the lower one is looser."""
    estimators = {prefix: e for prefix, e in estimators.items() if f"{prefix}log_likelihood" in metrics}
    if (best := tightest(metrics, estimators)) is None:
        return []
    sentences = []
    for prefix, other in estimators.items():
        if prefix == best:
            continue
        gap = metrics[f"{best}log_likelihood"] - metrics[f"{prefix}log_likelihood"]
        error = math.hypot(*(metrics.get(f"{p}standard_error", math.nan) for p in (best, prefix)))
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


def tightest(metrics: Metrics, estimators: Mapping[str, Estimator]) -> str | None:
    """Return the prefix of the highest of the estimates that are lower bounds on average; None if there are none."""
    bounds = [prefix for prefix, e in estimators.items() if e.unbiased and f"{prefix}log_likelihood" in metrics]
    return max(bounds, key=lambda prefix: metrics[f"{prefix}log_likelihood"], default=None)


def _why(metrics: Metrics, prefix: str) -> str:
    share, gap, bias = (metrics.get(prefix + name, 0.0) for name in ("pareto_k_bad", "simulated_gap", "bias"))
    if share > 0:
        return f", with a proposal that fails {share:.1%} of the examples"
    if gap > 0:
        return f", by {gap:.3f} nats on examples drawn from the model"
    return f", with a bias of about {bias:+.3f} nats" if bias else ""


def on_gaps(metrics: Metrics, estimators: Mapping[str, Estimator]) -> list[str]:
    """Return a sentence on the two parts of the inference gap, and on what would close the larger one."""
    best = tightest(metrics, estimators)
    if "amortization_gap_error" not in metrics or best is None or f"{best}approximation_gap_error" not in metrics:
        return []
    encoder, error = metrics["amortization_gap"], metrics["amortization_gap_error"]
    family, family_error = metrics[f"{best}approximation_gap"], metrics[f"{best}approximation_gap_error"]
    own = {name.removeprefix(best): value for name, value in metrics.items() if name.startswith(best)}
    lost = f"the encoder loses {encoder:.2f} +- {error:.2f} nats of the ELBO (amortisation gap)"
    if family < -2 * family_error:
        return [f"{lost}; the loss by the family of q(z|x) is unknown, because the estimate of log p(x) is too loose"]
    if not knows_bias(own) and family <= encoder:
        return [f"{lost}, and the family of q(z|x) at least {family:.2f}, because log p(x) is a lower bound"]
    if max(encoder + 2 * error, family + 2 * family_error) < SMALL:
        verdict = "both are too small to matter"
    elif abs(encoder - family) <= 2 * metrics[f"{best}gap_difference_error"]:
        verdict = "a better encoder and a richer posterior would help about as much"
    elif encoder > family:
        verdict = "a larger encoder, or one trained longer, would help more than a richer posterior"
    else:
        verdict = "a richer posterior would help more than a larger encoder"
    return [f"{lost}, and the family of q(z|x) {family:.2f} +- {family_error:.2f} (approximation gap): {verdict}"]


def on_latent(metrics: Metrics) -> list[str]:
    """Return sentences on posterior collapse, and on saturation of the mutual information."""
    sentences = []
    if "active_units" in metrics:
        active, size = int(metrics["active_units"]), int(metrics["latent_dim"])
        verdict = f"partial posterior collapse: {active} of {size} latent dimensions are active"
        if active == 0:
            verdict = f"posterior collapse: none of {size} latent dimensions is active{why_collapsed(metrics)}"
        elif active == size:
            verdict = f"no posterior collapse: all {size} latent dimensions are active"
        sentences.append(verdict)
    if "mutual_information" not in metrics:
        return [
            "active units and mutual information are unknown, because a flow has no mean, and N^2 of its densities "
            f"take too long; a collapse would show as a rate near 0, and the rate is {metrics['rate']:.2f} nats"
        ]
    information, limit = metrics["mutual_information"], metrics["mutual_information_limit"]
    if information > limit - NEAR:
        sentences.append(
            f"the mutual information is saturated: N examples can show at most log N = {limit:.2f} nats, so the true "
            "value may be larger, and KL(q(z) || p(z)) smaller"
        )
    return sentences


def why_collapsed(metrics: Metrics) -> str:
    """Say whose fault a posterior collapse is: the decoder's, or the encoder's, which lags behind the best q(z|x)."""
    if "amortization_gap_error" not in metrics:
        return ""
    rates = f"the best q(z|x) has a rate of {metrics['fitted_rate']:.2f} nats, the encoder's {metrics['rate']:.2f}"
    gap, error = metrics["amortization_gap"], metrics["amortization_gap_error"]
    if gap - 2 * error > NEGLIGIBLE:
        return f", because the encoder lags: {rates}, and its ELBO is higher by {gap:.2f} +- {error:.2f}"
    return f", because the decoder ignores z: {rates}"


def on_predictions(metrics: Metrics) -> list[str]:
    """Return sentences on a misfit that the predictive check shows, if it is of practical size and more than chance.

    Chance makes a share look wrong once in 500 times: Student's t of its per-example values.
    """
    from scipy.stats import t  # slow to import

    examples = min(metrics["num_examples"], NUM_EXAMPLES)
    if examples == 1:  # which has no error
        return []
    errors = t.isf(CHANCE, examples - 1)

    def gap(name: str, nominal: float) -> float:
        found = metrics[name] - nominal
        return found if abs(found) > max(MISFIT, errors * metrics[f"{name}_error"]) else 0.0

    inner, outer = (gap(name, level) for name, level in COVERAGES.items())
    held = "50% intervals hold {coverage_50:.0%} of the pixels, 90% intervals {coverage_90:.0%}".format(**metrics)
    sentences = []
    if inner * outer < 0:
        sentences.append(f"the tails of p(x|z) are too {'light' if inner > 0 else 'heavy'}: {held}")
    elif inner or outer:
        sentences.append(f"the predictive intervals are too {'narrow' if inner + outer < 0 else 'wide'}: {held}")
    if above := gap("above_median", 0.5):
        share = f"{metrics['above_median']:.0%} of the pixels lie above their median"
        sentences.append(f"the predictions p(x|z) are too {'low' if above > 0 else 'high'}: {share}")
    if outside := gap(OUTSIDE, 0.0):
        sentences.append(f"{outside:.0%} of the mass of p(x|z) lies at values that no pixel has")
    return sentences
