"""Importance sampling against the linear-Gaussian closed form."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.helpers.linear_gaussian import coverage, draw_data, linear_gaussian
from vaelab.errors import PointMassError
from vaelab.estimators import ImportanceSampling, importance
from vaelab.estimators.densities import Densities, Largest
from vaelab.estimators.importance_weights import threshold
from vaelab.priors import MixtureOfGaussians, VampPrior


@pytest.mark.parametrize(("num_samples", "examples"), [(1, 1), (26, 1), (101, 20), (250, 3)])
def test_an_exact_posterior_gives_log_evidence(num_samples, examples):
    vae, log_evidence = linear_gaussian(10)
    x = draw_data(vae, examples)
    estimate = ImportanceSampling(num_samples, max_batch_elements=7 * x.numel())(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence(x).reshape(-1), rtol=0, atol=1e-8)
    expected = torch.full((examples,), float(num_samples), dtype=torch.float64)
    torch.testing.assert_close(estimate.effective_sample_size, expected)
    assert estimate.standard_error.isnan().all() if num_samples == 1 else estimate.standard_error.max() < 1e-6


@pytest.mark.slow
def test_any_q_rises_in_k_towards_log_evidence_from_below():
    vae, log_evidence = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 1000)
    gaps = [ImportanceSampling(k)(vae, x).log_likelihood - log_evidence(x) for k in (1, 4, 16, 64, 256)]
    means = [gap.mean().item() for gap in gaps]
    assert np.all(np.diff(means) > 0)
    assert means[0] < -0.3
    assert -0.05 < means[-1] < 2 * gaps[-1].std().item() / math.sqrt(len(x))


def test_weights_are_unbiased_on_the_scale_of_the_evidence():
    vae, log_evidence = linear_gaussian(2, detune=0.3)
    x = draw_data(vae, 1).expand(50_000, -1, -1, -1)
    ratios = (ImportanceSampling(1)(vae, x).log_likelihood - log_evidence(x[:1])).exp()
    assert abs(ratios.mean().item() - 1) < 5 * ratios.std().item() / math.sqrt(len(ratios))


@pytest.mark.parametrize("latent_dim", [2, 50])
def test_any_q_comes_within_its_errors(latent_dim):
    vae, log_evidence = linear_gaussian(latent_dim, (1, 8, 8), detune=0.04)
    x = draw_data(vae, 100)
    estimate = ImportanceSampling(1000)(vae, x)
    error = estimate.standard_error.square().sum().sqrt() / len(x)
    bias = estimate.bias.mean()
    assert abs((estimate.log_likelihood - log_evidence(x)).mean() - bias) < 4 * error
    assert abs(bias) < error / 2
    assert (estimate.pareto_k < threshold(1000)).all()


def test_the_stated_error_and_bias_are_the_measured_ones():
    vae, log_evidence = linear_gaussian(3, detune=0.15)
    x = draw_data(vae, 1).expand(20_000, -1, -1, -1)
    estimate = ImportanceSampling(24)(vae, x)
    gap = estimate.log_likelihood - log_evidence(x[:1])
    assert gap.mean() < -10 * gap.std() / math.sqrt(len(gap))
    assert estimate.bias.mean().item() == pytest.approx(gap.mean().item(), rel=0.2)
    assert estimate.standard_error.mean().item() == pytest.approx(gap.std().item(), rel=0.1)


def test_errors_are_as_large_as_they_say():
    vae, log_evidence = linear_gaussian(5, detune=0.1)
    covered, estimate = coverage(ImportanceSampling(200), vae, log_evidence, examples=5, repeats=200)
    assert 0.9 < covered < 0.99
    assert (estimate.pareto_k < threshold(200)).double().mean() > 0.95


def test_pareto_k_warns_of_wrong_errors_under_a_poor_q():
    vae, log_evidence = linear_gaussian(5, detune=-1.5)
    covered, estimate = coverage(ImportanceSampling(200), vae, log_evidence, examples=5, repeats=100)
    assert covered < 0.5
    assert (estimate.pareto_k > threshold(200)).double().mean() > 0.8


@pytest.mark.slow
def test_the_budget_of_memory_holds_and_changes_no_draw():
    vae, _ = linear_gaussian(3, detune=0.5)
    x, found, largest = draw_data(vae, 3), [], []
    vae.decoder.register_forward_hook(lambda module, inputs, output: largest.append(output.mean.numel()))
    for budget in (1, 2 * 20, 7 * 20, 3 * 20 * 30, 10**9):
        torch.manual_seed(1)
        largest.clear()
        found.append(ImportanceSampling(130, budget)(vae, x).known())
        assert max(largest) <= max(budget, x[0].numel())
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_the_budget_counts_what_a_module_makes_within_the_decoder():
    vae, _ = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 3)
    vae.decoder.network = nn.Sequential(nn.Linear(3, 500), nn.Linear(500, 3)).double()
    assert Densities(vae, x, max_elements=1000).max_events == 2
    assert Densities(vae, x, max_elements=10).max_events == 1


@pytest.mark.parametrize("make", [VampPrior, MixtureOfGaussians])
def test_the_budget_counts_the_components_of_a_prior(make):
    vae, _ = linear_gaussian(3, detune=0.5)
    vae.prior = make((3,), (1, 4, 5), 200).double()
    with torch.no_grad(), vae.fixed_prior():
        x, found, largest = draw_data(vae, 3), [], []
        z = torch.randn(30, 3, 3, dtype=torch.float64)
        for budget in (5 * 200, 10**9):
            densities = Densities(vae, x, budget)
            with Largest() as counted:
                found.append((densities.log_prior(z), *densities.gradient_of_log_prior(z)))
            largest.append(counted.elements)
    assert largest[0] <= 5 * 200 < 30 * 3 * 200 <= largest[1]
    torch.testing.assert_close(*found)
    torch.testing.assert_close(found[0][0], vae.latent_prior().log_prob(z).detach())


def test_a_gpu_draws_the_same_whatever_the_budget(monkeypatch):
    vae, _ = linear_gaussian(3, detune=0.5)
    x, found = draw_data(vae, 3), []
    monkeypatch.setattr(importance, "ROUND", importance.ROUND_OF_GPU)
    for budget in (7 * 20, 10**9):
        torch.manual_seed(1)
        found.append(ImportanceSampling(1100, budget)(vae, x).known())
    torch.testing.assert_close(*found)


class Log(TorchDispatchMode):
    """Record the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_an_estimate_waits_for_the_gpu_only_once():
    vae, _ = linear_gaussian(3, detune=0.5)
    x = draw_data(vae, 3)
    with Log() as log:
        ImportanceSampling(1000)(vae, x)
    waits = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal"}
    assert [name for name in log.names if name in waits] == ["aten::_local_scalar_dense"]


def test_a_posterior_of_scale_0_is_refused():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 3)
    vae.encoder.head.scale.layer.linear.bias.data.fill_(-math.inf)
    with pytest.raises(PointMassError, match="3 of 3 examples"):
        ImportanceSampling(10)(vae, x)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match=r"estimator.num_samples must be a whole number of at least 1, found 0"):
        ImportanceSampling(num_samples=0)
