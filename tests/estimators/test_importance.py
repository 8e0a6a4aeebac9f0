import math

import numpy as np
import pytest
import torch

from tests.helpers.linear_gaussian import coverage, draw_data, linear_gaussian
from vaelab.errors import PointMassError
from vaelab.estimators import ImportanceSampling
from vaelab.estimators.importance_weights import threshold


@pytest.mark.parametrize("latent_dim", [2, 10])
@pytest.mark.parametrize("num_samples", [1, 7, 100])
def test_exact_posterior_gives_log_evidence_for_any_number_of_samples(latent_dim, num_samples):
    vae, log_evidence = linear_gaussian(latent_dim)
    x = draw_data(vae, 20)
    estimate = ImportanceSampling(num_samples)(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence(x), rtol=0, atol=1e-8)
    torch.testing.assert_close(
        estimate.effective_sample_size, torch.full((20,), float(num_samples), dtype=torch.float64)
    )
    if num_samples > 1:
        assert estimate.standard_error.max() < 1e-6


@pytest.mark.slow
def test_any_q_rises_in_k_towards_log_evidence_from_below():
    vae, log_evidence = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 1000)
    gaps, errors = [], []
    for k in (1, 4, 16, 64, 256):
        gap = ImportanceSampling(k)(vae, x).log_likelihood - log_evidence(x)
        gaps.append(gap.mean().item())
        errors.append(gap.std().item() / math.sqrt(len(x)))
    assert np.all(np.diff(gaps) > 0)
    assert gaps[0] < -0.3
    assert gaps[-1] < 2 * errors[-1]
    assert abs(gaps[-1]) < 0.05


def test_weights_are_unbiased_on_the_scale_of_the_evidence():
    vae, log_evidence = linear_gaussian(2, detune=0.3)
    x = draw_data(vae, 1).expand(50_000, -1, -1, -1)
    ratios = (ImportanceSampling(1)(vae, x).log_likelihood - log_evidence(x[:1])).exp()
    assert abs(ratios.mean().item() - 1) < 5 * ratios.std().item() / math.sqrt(len(ratios))


def test_standard_error_is_the_spread_of_repeated_estimates():
    vae, _ = linear_gaussian(3, detune=0.3)
    x = draw_data(vae, 1).expand(1000, -1, -1, -1)
    estimate = ImportanceSampling(200)(vae, x)
    assert estimate.standard_error.mean().item() == pytest.approx(estimate.log_likelihood.std().item(), rel=0.1)


@pytest.mark.parametrize("max_batch_elements", [1, 20 * 4 * 3, 20 * 4 * 7, 10**9])
def test_chunks_hold_the_budget_and_change_no_estimate(max_batch_elements):
    vae, log_evidence = linear_gaussian(2)
    x = draw_data(vae, 4)
    largest = 0

    def watch(module, inputs, output):
        nonlocal largest
        largest = max(largest, output.mean.numel())

    vae.decoder.register_forward_hook(watch)
    estimate = ImportanceSampling(50, max_batch_elements)(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence(x), rtol=0, atol=1e-8)
    torch.testing.assert_close(estimate.effective_sample_size, torch.full((4,), 50.0, dtype=torch.float64))
    assert largest <= max(max_batch_elements, x.numel())


def test_one_sample_has_no_standard_error():
    vae, _ = linear_gaussian(2)
    assert ImportanceSampling(1)(vae, draw_data(vae, 3)).standard_error.isnan().all()


@pytest.mark.parametrize("name", ["num_samples", "max_batch_elements"])
def test_refuses_nothing_to_draw(name):
    with pytest.raises(ValueError, match=f"estimator.{name}"):
        ImportanceSampling(**{name: 0})


@pytest.mark.parametrize("latent_dim", [2, 10, 50])
def test_any_q_comes_within_its_errors(latent_dim):
    vae, log_evidence = linear_gaussian(latent_dim, (1, 8, 8), detune=0.04)
    x = draw_data(vae, 100)
    estimate = ImportanceSampling(1000)(vae, x)
    error = estimate.standard_error.square().sum().sqrt() / len(x)
    bias = estimate.bias.mean()
    assert abs((estimate.log_likelihood - log_evidence(x)).mean() - bias) < 4 * error
    assert abs(bias) < error / 2
    assert (estimate.pareto_k < threshold(1000)).all()


@pytest.mark.parametrize(("num_samples", "examples"), [(250, 3), (101, 1), (1, 1), (26, 1)])
def test_samples_that_fill_no_round_and_no_part(num_samples, examples):
    vae, log_evidence = linear_gaussian(2)
    x = draw_data(vae, examples)
    estimate = ImportanceSampling(num_samples, max_batch_elements=7 * x.numel())(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence(x).reshape(-1), rtol=0, atol=1e-8)
    expected = torch.full((examples,), float(num_samples), dtype=torch.float64)
    torch.testing.assert_close(estimate.effective_sample_size, expected)


def test_the_draws_do_not_depend_on_the_memory():
    vae, _ = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 3)
    found = []
    for budget in (1, 2 * 20, 7 * 20, 3 * 20 * 30, 10**9):
        torch.manual_seed(1)
        found.append(ImportanceSampling(130, budget)(vae, x).known())
    for name, values in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(other[name], values, msg=lambda text, name=name: f"{name}: {text}")


def test_a_posterior_of_scale_0_is_refused():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 3)
    with torch.no_grad():
        vae.encoder.head.scale.layer.linear.bias.fill_(-math.inf)
    with pytest.raises(PointMassError, match="3 of 3 examples"):
        ImportanceSampling(10)(vae, x)


def test_the_stated_bias_is_the_measured_one():
    vae, log_evidence = linear_gaussian(3, detune=0.15)
    x = draw_data(vae, 1).expand(20_000, -1, -1, -1)
    estimate = ImportanceSampling(24)(vae, x)
    gap = estimate.log_likelihood - log_evidence(x[:1])
    error = gap.std() / math.sqrt(len(gap))
    assert gap.mean() < -10 * error
    assert estimate.bias.mean().item() == pytest.approx(gap.mean().item(), rel=0.2)


def test_errors_are_as_large_as_they_say():
    vae, log_evidence = linear_gaussian(5, detune=0.1)
    covered, estimate = coverage(ImportanceSampling(200), vae, log_evidence, examples=5, repeats=200)
    assert 0.9 < covered < 0.99
    assert (estimate.pareto_k < threshold(200)).double().mean() > 0.95


def test_pareto_k_tells_that_errors_of_a_poor_q_are_wrong():
    vae, log_evidence = linear_gaussian(5, detune=-1.5)
    covered, estimate = coverage(ImportanceSampling(200), vae, log_evidence, examples=5, repeats=100)
    assert covered < 0.5
    assert (estimate.pareto_k > threshold(200)).double().mean() > 0.8
