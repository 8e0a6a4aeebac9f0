"""Annealed importance sampling, and the Hamiltonian transitions under it, against the linear-Gaussian closed form."""

import math

import pytest
import torch

from tests.helpers.linear_gaussian import coverage, draw_data, linear_gaussian
from vaelab.estimators import AnnealedImportanceSampling
from vaelab.estimators.base import of_weights
from vaelab.estimators.hamiltonian import Hamiltonian


def tempered(vae, x, beta, scale):
    """Mean [batch, latent] and variances [latent] of the density proportional to p(z) p(x|z)^beta."""
    w, b = vae.decoder.head.loc.linear.weight, vae.decoder.head.loc.linear.bias
    precision = 1 + beta * w.square().sum(0) / scale**2
    return beta * (x.flatten(1) - b) @ w / scale**2 / precision, 1 / precision


@pytest.mark.parametrize("beta", [0.3, 1.0])
@torch.no_grad()
def test_transitions_lead_from_the_prior_to_the_tempered_posterior(beta):
    vae, _ = linear_gaussian(2, scale=0.5)
    x = draw_data(vae, 2)
    dynamics = Hamiltonian(vae, x, num_leapfrogs=3, max_batch_elements=10**6)
    state = dynamics.at(vae.latent_prior().sample((3000, 2)))
    mean, variance = tempered(vae, x, beta, scale=0.5)
    step_size = torch.full((2,), 1.2 * variance.min().sqrt().item(), dtype=torch.float64)
    accepted = []
    for t in range(25):
        state, acceptance = dynamics.transition(state, beta, step_size, t)
        accepted.append(acceptance.mean())
    assert torch.stack(accepted)[10:].mean() < 0.97  # so that the Metropolis step has work to do
    standard = (state.z - mean) / variance.sqrt()
    assert standard.mean(0).abs().max() < 4.5 / math.sqrt(3000)
    covariance = torch.einsum("cbi,cbj->bij", standard, standard) / 3000
    assert (covariance - torch.eye(2, dtype=torch.float64)).abs().max() < 4.5 * math.sqrt(2 / 3000)


@torch.no_grad()
def test_a_state_holds_the_densities_and_gradients_at_its_place():
    vae, log_evidence = linear_gaussian(3)
    x = draw_data(vae, 4)
    z = torch.randn(5, 4, 3, dtype=torch.float64)
    state = Hamiltonian(vae, x, 1, max_batch_elements=3 * x[0].numel()).at(z)
    mean, variance = tempered(vae, x, 1.0, scale=0.5)
    posterior = torch.distributions.Normal(mean, variance.sqrt()).log_prob(z).sum(-1)
    torch.testing.assert_close(state.log_density(1.0), log_evidence(x) + posterior)
    torch.testing.assert_close(state.gradient(1.0), (mean - z) / variance)
    torch.testing.assert_close(state.gradient(0.0), -z)


def test_weights_are_unbiased_on_the_scale_of_the_evidence():
    vae, log_evidence = linear_gaussian(2, scale=1.0)
    x = draw_data(vae, 1).expand(4000, -1, -1, -1)
    estimate = AnnealedImportanceSampling(num_temperatures=8, num_chains=2, num_leapfrogs=3)(vae, x)
    ratios = (estimate.log_likelihood - log_evidence(x[:1])).exp()
    assert abs(ratios.mean().item() - 1) < 5 * ratios.std().item() / math.sqrt(len(ratios))
    assert estimate.log_likelihood.mean() < log_evidence(x[:1])


BOUNDED = [
    pytest.param(2, (1, 4, 5), 100, 4, 10, id="2", marks=pytest.mark.slow),
    pytest.param(10, (1, 4, 5), 150, 4, 6, id="10", marks=pytest.mark.slow),
    pytest.param(50, (1, 8, 8), 2000, 10, 4, id="50", marks=pytest.mark.exhaustive),
]


@pytest.mark.parametrize(("latent_dim", "event_shape", "temperatures", "leapfrogs", "examples"), BOUNDED)
@torch.no_grad()
def test_bounds_from_both_sides_close_on_the_evidence(latent_dim, event_shape, temperatures, leapfrogs, examples):
    scale = 0.5 if latent_dim == 50 else 1.0
    vae, log_evidence = linear_gaussian(latent_dim, event_shape, scale=scale)
    ais = AnnealedImportanceSampling(temperatures, num_chains=16, num_leapfrogs=leapfrogs)
    z = vae.latent_prior().sample((examples,))
    x = vae.decode(z).sample()
    prepared = ais.prepared(vae, x)
    log_weights, acceptance = ais.forward(*prepared)
    forward, backward = of_weights(log_weights), of_weights(ais.backward(*prepared, z))
    truth = log_evidence(x).mean()
    for estimate, sign in ((forward, 1), (backward, -1)):
        error = estimate.standard_error.square().sum().sqrt() / examples
        bias = sign * estimate.bias.mean()
        assert abs(sign * estimate.log_likelihood.mean() - bias - truth) < 4 * error
        assert abs(bias) < 0.05
    gap = -backward.log_likelihood.mean() - forward.log_likelihood.mean()
    error = (forward.standard_error.square() + backward.standard_error.square()).sum().sqrt() / examples
    assert -3 * error < gap < 0.05 + 2 * error
    assert acceptance.min() > 0.5
    assert acceptance.max() < 0.8


def test_bounds_of_simulated_examples_are_in_order_on_average():
    vae, _ = linear_gaussian(2, scale=1.0)
    x = draw_data(vae, 2)
    ais = AnnealedImportanceSampling(num_temperatures=10, num_chains=4, num_leapfrogs=2, num_simulated=300)
    estimate = ais(vae, x)
    assert estimate.simulated_lower.shape == estimate.simulated_upper.shape == (300,)
    gap = estimate.simulated_upper - estimate.simulated_lower
    assert gap.mean() > 3 * gap.std() / math.sqrt(len(gap))
    assert AnnealedImportanceSampling(5, 2, 1, num_simulated=0)(vae, x).simulated_lower is None


def test_the_encoder_has_no_part_in_it():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 3)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(AnnealedImportanceSampling(5, 4, 2, num_simulated=2)(vae, x).known())
        torch.nn.init.constant_(vae.encoder.head.loc.linear.weight, math.nan)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_temperatures_rise_from_0_to_1():
    betas = AnnealedImportanceSampling(500).betas()
    assert len(betas) == 501
    assert (betas[0], betas[-1]) == (0, 1)
    assert betas == sorted(set(betas))


@pytest.mark.slow
def test_errors_are_as_large_as_they_say():
    vae, log_evidence = linear_gaussian(2, scale=1.0)
    ais = AnnealedImportanceSampling(num_temperatures=20, num_chains=16, num_leapfrogs=4)
    covered, _ = coverage(ais, vae, log_evidence, examples=4, repeats=200)
    assert 0.88 < covered < 0.99


@pytest.mark.parametrize(("name", "value"), [("num_temperatures", 0), ("num_chains", 0), ("num_simulated", -1)])
def test_counts_that_are_too_small_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"estimator.{name} must be .* found {value}"):
        AnnealedImportanceSampling(**{name: value})
