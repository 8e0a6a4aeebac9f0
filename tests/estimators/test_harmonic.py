"""The harmonic identity over samples of the posterior, against the linear-Gaussian closed form."""

import pytest
import torch
from arviz_stats.base import array_stats

from tests.helpers.linear_gaussian import coverage, draw_data, linear_gaussian
from vaelab.estimators import HarmonicMean
from vaelab.estimators.harmonic import harmonic, r_hat


@pytest.mark.parametrize("latent_dim", [2, 5])
def test_comes_within_its_errors(latent_dim):
    vae, log_evidence = linear_gaussian(latent_dim, detune=0.3)
    x = draw_data(vae, 20)
    estimate = HarmonicMean(num_chains=32, num_draws=30, num_burn_in=50, num_leapfrogs=4)(vae, x)
    error = estimate.standard_error.square().sum().sqrt() / len(x)
    assert abs((estimate.log_likelihood - log_evidence(x)).mean() - estimate.bias.mean()) < 4 * error
    assert error < 0.03
    assert estimate.acceptance_rate.min() > 0.5
    assert estimate.acceptance_rate.max() < 0.85
    assert estimate.r_hat.median() < 1.2
    assert (estimate.effective_sample_size <= 16 * 30).all()


@pytest.mark.slow
def test_errors_are_as_large_as_they_say():
    vae, log_evidence = linear_gaussian(2, scale=1.0)
    hmc = HarmonicMean(num_chains=16, num_draws=20, num_burn_in=30, num_leapfrogs=4)
    covered, _ = coverage(hmc, vae, log_evidence, examples=4, repeats=100)
    assert 0.88 < covered < 0.99


def test_a_known_mean_of_ratios():
    log_ratios = torch.randn(20, 500, 3, dtype=torch.float64) * 0.5 + 7
    estimate = harmonic(log_ratios)
    torch.testing.assert_close(estimate.log_likelihood, -log_ratios.exp().mean((0, 1)).log())
    relative = ((torch.tensor(0.25).exp() - 1) / 10_000).sqrt().double()  # of a log-normal mean
    torch.testing.assert_close(estimate.standard_error, relative.expand(3), rtol=0.15, atol=0)


def test_chains_that_never_move_make_no_number():
    vae, _ = linear_gaussian(2, detune=0.3)
    x = draw_data(vae, 2)
    with torch.no_grad():
        vae.encoder.head.scale.layer.linear.bias.fill_(-80)
        vae.decoder.head.scale.layer.linear.bias.fill_(-40)
    estimate = HarmonicMean(num_chains=4, num_draws=30, num_burn_in=1, num_leapfrogs=1)(vae, x)
    assert estimate.acceptance_rate.max() == 0
    assert estimate.log_likelihood.isnan().all()
    assert estimate.standard_error.isnan().all()


def test_r_hat_tells_chains_that_stand_apart():
    draws = torch.randn(100, 8, 3, 2, dtype=torch.float64)
    draws[:, :4, 1, 1] += 5
    found = r_hat(draws)
    assert (found[[0, 2]] < 1.03).all()
    assert found[1] > 1.5
    assert r_hat(draws[:3]).isnan().all()


def test_a_latent_of_more_than_five_dimensions_is_refused():
    vae, _ = linear_gaussian(6)
    with pytest.raises(ValueError, match=r"at most 5 dimensions, found latent_dim=6"):
        HarmonicMean()(vae, draw_data(vae, 1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_chains": 5}, "must be even and at least 4, .* found num_chains=5"),
        ({"num_chains": 4, "num_draws": 20}, "at least 100, found num_chains=4 and num_draws=20"),
    ],
)
def test_too_few_draws_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        HarmonicMean(**arguments)


@pytest.mark.parametrize(("num_draws", "scale"), [(4, 1), (5, 1), (50, 1), (51, 100)])
def test_r_hat_is_that_of_arviz(num_draws, scale):
    draws = torch.randn(num_draws, 6, 5, 3) + torch.arange(6.0).view(6, 1, 1) / scale
    draws[1] = draws[0]  # rejected transitions, which repeat a draw
    expected = array_stats.rhat(draws.movedim((2, 3), (0, 1)).numpy(), chain_axis=-1, draw_axis=-2)
    torch.testing.assert_close(r_hat(draws).double(), torch.as_tensor(expected).max(-1).values)


@pytest.mark.filterwarnings("error")
def test_chains_that_never_moved_have_no_r_hat():
    assert r_hat(torch.zeros(10, 4, 2, 3)).isnan().all()
