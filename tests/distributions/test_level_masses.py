"""Masses of grey levels and of counts, against SciPy and mpmath."""

import itertools

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
import torch.distributions as td

from tests.helpers.distributions import assert_samples_have_its_moments, assert_total_is_one
from vaelab.distributions import Levels, Logistic, NegativeBinomial, PixelMixture, Poisson, Quantised

mpmath.mp.dps = 60
COUNTS = torch.tensor([0.0, 1.0, 7.0, 100.0, 255.0])


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def negative_binomial(log_mean, dispersion, x):
    """log p(x) from the definition, at 60 digits."""
    m, r, x = mpmath.exp(mpmath.mpf(log_mean)), mpmath.mpf(dispersion), mpmath.mpf(x)
    binomial = mpmath.loggamma(x + r) - mpmath.loggamma(r) - mpmath.loggamma(x + 1)
    return float(binomial + r * mpmath.log(r / (r + m)) + x * mpmath.log(m / (r + m)))


@pytest.mark.parametrize("mean", [1e-6, 0.5, 17.0, 255.0])
def test_poisson_is_scipys_in_float32(mean):
    log_mean = torch.tensor(mean).log()
    expected = scipy.stats.poisson(log_mean.double().exp().item()).logpmf(COUNTS)
    np.testing.assert_allclose(Poisson(log_mean).log_prob(COUNTS), expected, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("dispersion", [0.01, 1.0, 29.999, 30.001, 1e3, 1e5, 1e6, 1e8, 1e12, 1e15])
@pytest.mark.parametrize("log_mean", [-40.0, 0.5, 5.5])
def test_negative_binomial_is_the_definition_in_float32(log_mean, dispersion):
    p = NegativeBinomial(torch.tensor(log_mean), torch.tensor(dispersion))
    expected = [negative_binomial(log_mean, p.dispersion.item(), x) for x in COUNTS.tolist()]
    np.testing.assert_allclose(p.log_prob(COUNTS), expected, rtol=3e-7, atol=1e-7)


def test_negative_binomial_is_scipys_with_the_opposite_probability():
    mean, r = 7.0, 3.0
    known, p = scipy.stats.nbinom(r, r / (r + mean)), NegativeBinomial(tensor(mean).log(), tensor(r))
    np.testing.assert_allclose(p.log_prob(COUNTS), known.logpmf(COUNTS), rtol=1e-12)
    np.testing.assert_allclose([p.mean, p.variance], [known.mean(), known.var()], rtol=1e-12)


@pytest.mark.parametrize("dispersion", [1e5, 1e9, 1e15])
def test_large_dispersion_is_the_poisson_in_value_and_gradient(dispersion):
    log_means = [tensor([-2.0, 1.0, 5.5]).requires_grad_() for _ in range(2)]
    x, r = tensor([[0.0], [3.0], [255.0]]), tensor(dispersion).requires_grad_()
    found, limit = NegativeBinomial(log_means[0], r).log_prob(x), Poisson(log_means[1]).log_prob(x)
    np.testing.assert_allclose(found.detach(), limit.detach(), atol=255**2 / dispersion)
    found.sum().backward()
    limit.sum().backward()
    np.testing.assert_allclose(log_means[0].grad, log_means[1].grad, rtol=600 / dispersion + 1e-12)
    assert abs(r.grad.item()) < 1e6 / dispersion**2 + 1e-12


@pytest.mark.parametrize("r", [0.3, 25.0, 40.0])
def test_negative_binomial_has_the_gradients_of_finite_differences(r):
    arguments = (tensor([1.5]).requires_grad_(), tensor([r]).requires_grad_())
    assert torch.autograd.gradcheck(lambda *of: NegativeBinomial(*of).log_prob(COUNTS.double()), arguments)


@pytest.mark.parametrize(
    "p",
    [
        Poisson(tensor(2.0)),
        NegativeBinomial(tensor(2.0), tensor(0.5)),
        NegativeBinomial(tensor(4.0), tensor(1e6)),
        Levels(logits=tensor([1.0, -2.0, 0.5, 0.0, 3.0])),
    ],
)
def test_each_sums_to_one_and_draws_its_moments(p):
    assert_total_is_one(p)
    assert_samples_have_its_moments(p)
    assert p.support.check(p.sample((100,))).all()


def test_levels_have_the_moments_of_their_masses():
    logits = torch.randn(3, 256)
    p, level = Levels(logits=logits), np.arange(256)
    mass = scipy.special.softmax(logits.double().numpy(), 1)
    mean = mass @ level
    np.testing.assert_allclose(p.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(p.variance, (mass * (level - mean[:, None]) ** 2).sum(1), rtol=1e-5)
    assert p.sample((4,)).dtype == torch.float32


def mixture(num_levels=4, height=1, width=1):
    """A mixture of 2 components for each pixel of an image of 3 channels."""
    shape = (3, height, width, 2)
    logistics = Logistic(torch.rand(shape, dtype=torch.float64), torch.full(shape, 0.1, dtype=torch.float64))
    return PixelMixture(torch.randn(shape[1:], dtype=torch.float64), Quantised(logistics, num_levels))


def test_masses_of_a_pixel_sum_to_one_over_all_channels():
    colours = tensor(list(itertools.product(range(4), repeat=3))).view(-1, 3, 1, 1)
    assert mixture().log_prob(colours).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_channels_of_a_pixel_share_their_component():
    p = mixture(17, 2, 2)
    x = p.sample((5,))
    weights, masses = p.log_weights.exp().numpy(), p.components.log_prob(x.unsqueeze(-1)).exp().numpy()
    expected = sum(
        np.log(sum(weights[h, w, k] * masses[:, :, h, w, k].prod(1) for k in range(2)))
        for h, w in itertools.product(range(2), repeat=2)
    )
    np.testing.assert_allclose(p.log_prob(x), expected, rtol=1e-12)


def test_a_mixture_draws_its_moments_and_the_covariance_of_its_channels():
    p = mixture(17)
    assert_samples_have_its_moments(p)
    weights, means = p.log_weights.exp().flatten(), p.components.mean.squeeze()
    between = ((means[0] - means[0] @ weights) * (means[1] - means[1] @ weights)) @ weights
    draws = p.sample((20_000,)).squeeze()
    products = (draws[:, 0] - draws[:, 0].mean()) * (draws[:, 1] - draws[:, 1].mean())
    assert products.mean().item() == pytest.approx(between.item(), abs=5 * products.std().item() / 20_000**0.5)


def test_stacked_models_have_the_masses_that_each_has_alone():
    logits, log_mean = torch.randn(2, 5, 17), torch.randn(2, 5)
    x = torch.tensor([0.0, 3.0, 16.0, 1.0, 2.0])
    for make, parameters in ((lambda o: Levels(logits=o, validate_args=False), logits), (Poisson, log_mean)):
        stacked = torch.vmap(lambda o, make=make: td.Independent(make(o), 1).log_prob(x))(parameters)
        torch.testing.assert_close(stacked, torch.stack([make(o).log_prob(x).sum() for o in parameters]))
