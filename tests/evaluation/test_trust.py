"""The interval of log p(x) that an estimate gives, on a model whose log p(x) is known."""

import math

import pytest
import torch

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.estimators import AnnealedImportanceSampling, Estimator, ImportanceSampling, RefinedImportanceSampling
from vaelab.evaluation.metrics import estimate_summary
from vaelab.evaluation.trust import in_words, interval, knows_bias

EXAMPLES, REPEATS = 20, 50


def evaluations(estimator: Estimator, latent_dim: int, detune: float) -> list[tuple[dict[str, float], float]]:
    """Return the metrics of repeated evaluations of the same examples, each with their true mean log p(x)."""
    vae, log_evidence = linear_gaussian(latent_dim, detune=detune)
    x = draw_data(vae, EXAMPLES)
    columns = estimator(vae, x.repeat(REPEATS, 1, 1, 1)).known()
    truth = log_evidence(x).mean().item()
    rows = torch.arange(EXAMPLES * REPEATS).split(EXAMPLES)
    return [(estimate_summary({name: v[own] for name, v in columns.items()}, estimator), truth) for own in rows]


def ais(chains: int, temperatures: int) -> AnnealedImportanceSampling:
    return AnnealedImportanceSampling(temperatures, num_chains=chains, num_leapfrogs=3, num_simulated=0)


CASES = [  # the estimator, the latent's size, how wrong q is, and whether the bias is known in most evaluations
    *((ImportanceSampling(k), 2, 0.1, True) for k in (20, 100, 500)),
    pytest.param(ImportanceSampling(1000), 7, 0.2, True, marks=pytest.mark.slow),
    (RefinedImportanceSampling(100), 7, 0.5, True),
    (ImportanceSampling(10), 7, 0.2, False),
    (ImportanceSampling(100), 7, 0.5, False),
    pytest.param(ImportanceSampling(1000), 7, -0.3, False, marks=pytest.mark.slow),
    (ImportanceSampling(30), 20, 0.2, False),
    pytest.param(ais(32, 30), 2, 0.0, True, marks=pytest.mark.slow),
    (ais(4, 5), 5, 0.0, False),
]


@pytest.mark.parametrize(("estimator", "latent_dim", "detune", "known"), CASES, ids=str)
def test_the_interval_holds_log_evidence(estimator: Estimator, latent_dim: int, detune: float, known: bool) -> None:
    found = evaluations(estimator, latent_dim, detune)
    intervals = [interval(metrics) for metrics, _ in found]
    covered = [low <= truth <= high for (low, high), (_, truth) in zip(intervals, found, strict=True)]  # type: ignore[misc]
    assert sum(covered) >= 0.86 * REPEATS  # three standard deviations below 0.95
    assert sum(knows_bias(metrics) for metrics, _ in found) >= 0.8 * REPEATS if known else True
    assert sum(math.isinf(high) for _, high in intervals) >= 0.8 * REPEATS if not known else True  # type: ignore[misc]


def test_a_bias_that_is_not_known_is_a_lower_bound_of_the_true_one() -> None:
    found = evaluations(ImportanceSampling(10), 7, 0.2)
    stated = sum(metrics["bias"] for metrics, _ in found) / REPEATS
    true = sum(metrics["log_likelihood"] - truth for metrics, truth in found) / REPEATS
    assert true < 1.5 * stated < 0


def test_a_single_sample_gives_no_interval() -> None:
    assert interval({"log_likelihood": -3.0, "num_samples": 1}) is None


def test_an_estimate_that_is_too_high_has_its_bias_on_the_other_side() -> None:
    own = {"log_likelihood": -3.0, "standard_error": 0.1, "bias": 0.2, "effective_sample_size": 100}
    assert interval(own) == pytest.approx((-3.6, -2.8))
    assert interval(own | {"r_hat": 1.3}) == (-math.inf, pytest.approx(-2.8))


def test_a_score_is_named_for_what_it_is() -> None:
    assert in_words({}, "elbo", 0.0) == "the ELBO, a lower bound of log p(x)"
    assert in_words({"num_samples": 1}, "log_likelihood", 0.0).startswith(
        "a lower bound of log p(x) with K = 1; the proposal is not checked"
    )
    assert in_words({"log_likelihood": -3.0, "bias": 0.1}, "log_likelihood", 0.0) == "an estimate of log p(x)"
