import math

import numpy as np
import pytest
import torch

from tests.linear_gaussian import draw_data, linear_gaussian
from vaelab.estimators import ImportanceSampling


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


def test_any_q_rises_in_k_towards_log_evidence_from_below():
    vae, log_evidence = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 4000)
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
    x = draw_data(vae, 1).expand(3000, -1, -1, -1)
    estimate = ImportanceSampling(200)(vae, x)
    assert estimate.standard_error.mean().item() == pytest.approx(estimate.log_likelihood.std().item(), rel=0.1)


@pytest.mark.parametrize("max_batch_elements", [1, 20 * 4 * 3, 20 * 4 * 7, 10**9])
def test_chunks_hold_the_budget_and_do_not_change_what_is_estimated(max_batch_elements):
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
