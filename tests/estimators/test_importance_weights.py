"""Sums of importance weights that come in parts, and the tail's shape against ArviZ and known tails."""

import math

import pytest
import torch
from arviz_stats.base import array_stats

from vaelab.estimators.importance_weights import of_parts, threshold


def estimate_of(log_weights, part=100):
    return of_parts(log_weights.split(part), len(log_weights))


@pytest.mark.parametrize("shape", [0.2, 0.9])
@pytest.mark.parametrize("num_samples", [200, 20_000])
def test_pareto_k_is_the_shape_of_a_pareto_tail(num_samples, shape):
    u = torch.rand(num_samples, 20, dtype=torch.float64)
    tail = min(num_samples / 5, 3 * math.sqrt(num_samples))
    shrunken = (tail * shape + 10 * 0.5) / (tail + 10)  # the fit's prior: Vehtari et al. (2024), appendix
    found = estimate_of(-shape * u.log()).pareto_k
    error = (1 + shape) / math.sqrt(tail)  # of one fit by maximum likelihood, of which 20 are averaged
    assert found.mean().item() == pytest.approx(shrunken, abs=4 * error / math.sqrt(20) + 0.02)


TAILS = {  # log weights, made of standard normal noise
    "light": lambda noise: 0.1 * noise,
    "lognormal": lambda noise: 2 * noise,
    "heavy": lambda noise: noise.square() * 3,
    "bounded": lambda noise: torch.special.ndtr(noise).log(),
    "far below": lambda noise: noise - 5e4,
    "underflowing": lambda noise: torch.where(noise > 1, noise, -math.inf),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ArviZ, where the tail underflows
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("num_samples", [25, 99, 224, 225, 226, 400, 5000, 12_321])
def test_pareto_k_is_that_of_arviz(num_samples, tail):
    log_weights = TAILS[tail](torch.randn(num_samples, 7, dtype=torch.float64))
    found = estimate_of(log_weights).pareto_k
    expected = torch.as_tensor(array_stats.psislw(-log_weights.clamp_min(-1e300).T.numpy())[1])
    fits = found.isfinite()
    assert fits.all() or tail == "underflowing"
    torch.testing.assert_close(found[fits], expected[fits], rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of ArviZ, where a quarter of the tail equals the threshold
@pytest.mark.parametrize("ties", [lambda noise: (noise > 2).double(), lambda noise: (noise / 2).round() / 5])
def test_pareto_k_is_that_of_arviz_where_weights_are_equal(ties):
    log_weights = ties(torch.randn(5000, 7, dtype=torch.float64))
    expected = torch.as_tensor(array_stats.psislw(-log_weights.T.numpy())[1])
    torch.testing.assert_close(estimate_of(log_weights).pareto_k, expected, rtol=1e-9, atol=1e-9)


def test_few_or_even_weights_have_no_tail():
    assert estimate_of(torch.randn(24, 3)).pareto_k is None
    assert (estimate_of(torch.full((100, 3), -90.0) + 1e-6 * torch.randn(100, 3)).pareto_k < 0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("num_samples", [30, 5000])
@pytest.mark.parametrize("not_zero", [0, 1, 2, None])
def test_a_tail_beyond_all_measure_is_no_good_one(num_samples, not_zero):
    log_weights = 1e5 * torch.randn(num_samples, 4, dtype=torch.float64)
    if not_zero is not None:
        log_weights[not_zero:] = -math.inf
    assert (estimate_of(log_weights).pareto_k > threshold(num_samples)).all()


def test_parts_make_the_sums_of_the_whole():
    log_weights = 3 * torch.randn(1234, 5, dtype=torch.float64) - 2000
    weights = (log_weights + 2000).exp()
    estimate = estimate_of(log_weights, part=97)
    torch.testing.assert_close(estimate.log_likelihood, weights.mean(0).log() - 2000)
    torch.testing.assert_close(estimate.effective_sample_size, weights.sum(0).square() / weights.square().sum(0))
    relative = weights.std(0) / weights.mean(0) / math.sqrt(1234)
    torch.testing.assert_close(estimate.standard_error, relative)
    torch.testing.assert_close(estimate.bias, -relative.square() / 2)


def test_the_threshold_is_that_of_the_paper():
    assert threshold(100) == pytest.approx(0.5)
    assert threshold(5000) == 0.7
