"""Against SciPy, and against numerical integration of SciPy's densities."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.distributions as td

from tests.helpers.distributions import assert_samples_have_its_moments, assert_stacked_models_draw_alone
from vaelab.distributions import IndependentBernoulli, Logistic, Normal, Quantised, draw
from vaelab.errors import ConfigError

FAMILIES = {"normal": (Normal, scipy.stats.norm), "logistic": (Logistic, scipy.stats.logistic)}
LOC, SCALE = 0.375, 0.25  # with exact halves, so that ends given in units of the scale are not rounded


def tensor(x):
    return torch.tensor(x, dtype=torch.float64)


def integrated_log_mass(family, lower, upper):
    """log of the integral of the standard density, relative to its highest value there: Gauss-Legendre."""
    highest = min(max(0.0, lower), upper)
    reach = 60 / max(4, abs(highest)) if family is scipy.stats.norm else 60  # beyond, e^-60 of it is left
    begin, end = max(lower, highest - reach), min(upper, highest + reach)
    nodes, weights = np.polynomial.legendre.leggauss(300)
    x = begin + (nodes + 1) * (end - begin) / 2
    relative = np.exp(family.logpdf(x) - family.logpdf(highest))
    return family.logpdf(highest) + np.log(relative @ weights * (end - begin) / 2)


def test_a_mixture_of_logistics_has_masses_of_levels():
    parts = Logistic(tensor([0.2, 0.9]), tensor([0.05, 0.1]))
    p = Quantised(td.MixtureSameFamily(td.Categorical(tensor([0.3, 0.7])), parts), 17)
    masses = p.log_prob(torch.arange(17)).exp()
    torch.testing.assert_close(masses.sum(), tensor(1.0))
    known = scipy.stats.logistic([0.2, 0.9], [0.05, 0.1])
    np.testing.assert_allclose(masses[5], [0.3, 0.7] @ (known.cdf(6 / 17) - known.cdf(5 / 17)), rtol=1e-9)


def test_logistic_is_scipys():
    x, p, known = tensor(np.linspace(-9, 9, 41)), Logistic(tensor(LOC), tensor(SCALE)), scipy.stats.logistic(LOC, SCALE)
    np.testing.assert_allclose(p.log_prob(x), known.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose([p.mean, p.variance], [known.mean(), known.var()], rtol=1e-12)
    draws = p.sample((20_000,))
    assert scipy.stats.kstest(draws, known.cdf).pvalue > 0.01


def test_logistic_gradients_are_finite_far_in_both_tails():
    loc = torch.zeros(2, requires_grad=True)
    log_prob = Logistic(loc, torch.tensor(1e-3)).log_prob(torch.tensor([-5.0, 5.0]))
    np.testing.assert_allclose(log_prob.detach(), -5000 + math.log(1000), rtol=1e-6)
    log_prob.sum().backward()
    np.testing.assert_allclose(loc.grad, [-1000, 1000])


def test_logistic_draws_follow_location_and_scale():
    loc, scale = tensor([0.0, 1.0]).requires_grad_(), tensor([1.0, 2.0]).requires_grad_()
    draws = Logistic(loc, scale).rsample((5,))
    assert draws.shape == (5, 2)
    draws.sum().backward()
    np.testing.assert_allclose(loc.grad, 5)
    np.testing.assert_allclose(scale.grad, ((draws - loc) / scale).detach().sum(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_stacked_models_draw_what_each_draws_alone(family):
    def sample(loc):
        return FAMILIES[family][0](loc, torch.ones(4)).rsample()

    assert_stacked_models_draw_alone(sample, torch.zeros(2, 4))


def test_logistic_broadcasts_expands_and_validates():
    p = Logistic(torch.zeros(3), torch.tensor(1.0))
    assert p.expand((2, 3)).log_prob(torch.zeros(3)).shape == (2, 3)
    assert td.Independent(p, 1).expand((4,)).sample().shape == (4, 3)
    with pytest.raises(ValueError, match="scale"):
        Logistic(torch.zeros(3), torch.tensor(-1.0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [1e-12, 1e-3, 1 / 32, 1.0, 90.0])
@pytest.mark.parametrize("middle", [-1000, -3, 0, 0.5, 12, 40])
def test_log_mass_is_the_integral_of_the_density(family, middle, width):
    make, known = FAMILIES[family]
    a, b = middle - width / 2, middle + width / 2
    found = make(tensor(0.0), tensor(1.0)).log_mass(tensor(a), tensor(b))
    assert found.item() == pytest.approx(integrated_log_mass(known, a, b), rel=1e-12, abs=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [-1000.0, -1.0, 0.0, 40.0])
def test_log_mass_of_a_half_line_is_scipys_tail(family, end):
    make, known = FAMILIES[family]
    p, infinity = make(tensor(LOC), tensor(SCALE)), tensor(math.inf)
    at = tensor(LOC + SCALE * end)
    assert p.log_mass(-infinity, at).item() == pytest.approx(known.logcdf(end), rel=1e-12, abs=1e-300)
    assert p.log_mass(at, infinity).item() == pytest.approx(known.logsf(end), rel=1e-12, abs=1e-300)
    assert p.log_mass(-infinity, infinity).item() == 0
    assert p.log_mass(at, at).item() == -math.inf


@pytest.mark.parametrize("family", FAMILIES)
def test_log_mass_has_the_gradients_of_finite_differences(family):
    lower = tensor([-math.inf, -math.inf, 0.3, 0.3, -9.0, 9.0, 0.0])
    upper = tensor([0.3, math.inf, math.inf, 0.3 + 1e-6, -8.9, 9.2, 1.0])
    arguments = (tensor([LOC] * 7).requires_grad_(), tensor([SCALE] * 7).requires_grad_())
    assert torch.autograd.gradcheck(lambda *of: FAMILIES[family][0](*of).log_mass(lower, upper), arguments, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_log_mass_in_float32_does_not_underflow(family):
    make, known = FAMILIES[family]
    found = make(torch.zeros(()), torch.tensor(2.0**-10)).log_mass(torch.tensor(0.5), torch.tensor(0.5 + 2.0**-8))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(integrated_log_mass(known, 512, 516), rel=1e-6)


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("make", [Normal, Logistic, td.Laplace])
def test_masses_of_levels_sum_to_one(make, levels):
    loc, scale = tensor([[-0.4], [0.0], [0.41], [0.999], [3.0]]), tensor([[1e-3], [0.05], [2.0], [0.3], [0.5]])
    total = Quantised(make(loc, scale), levels).log_prob(torch.arange(levels)).exp().sum(1)
    np.testing.assert_allclose(total, 1, rtol=1e-11)


def test_without_log_mass_the_cdf_serves_until_it_underflows():
    x = tensor([0.0, 3.0, 200.0, 255.0])
    p = Quantised(td.Laplace(tensor(0.2), tensor(0.1)), 256)
    edges = np.array([[-np.inf, 1], [3, 4], [200, 201], [255, np.inf]]) / 256
    masses = np.diff(scipy.stats.laplace(0.2, 0.1).cdf(edges))[:, 0]
    np.testing.assert_allclose(p.log_prob(x), np.log(masses), rtol=1e-9)
    assert Quantised(td.Laplace(tensor(0.0), tensor(1e-3)), 256).log_prob(tensor(128.0)) == -math.inf


@pytest.mark.parametrize("make", [Logistic, td.Laplace])
def test_draws_of_levels_are_levels_and_have_their_moments(make):
    p = Quantised(make(tensor([-0.1, 0.4, 0.97]), tensor([0.1, 0.2, 0.1])), 17)
    assert p.support.check(p.sample((1000,))).all()
    assert_samples_have_its_moments(p)
    assert p.expand((2, 3)).sample().shape == (2, 3)


@pytest.mark.parametrize("levels", [2, 256])
def test_moments_of_levels_keep_their_digits_in_float32(levels):
    loc, scale = torch.linspace(-0.2, 1.2, 15), torch.tensor(1e-3)
    p = Quantised(Normal(loc, scale), levels)
    level = np.arange(levels)[:, None]
    edges = np.concatenate([[[-np.inf]], level[1:] / levels, [[np.inf]]])
    # the smaller tail, because differences of a cdf near 1 cancel
    z = (edges - loc.double().numpy()) / scale.item()
    mass = np.where(
        z[:-1] > 0, scipy.stats.norm.sf(z[:-1]) - scipy.stats.norm.sf(z[1:]), np.diff(scipy.stats.norm.cdf(z), axis=0)
    )
    mean = (mass * level).sum(0)
    np.testing.assert_allclose(p.mean.numpy(), mean, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(p.variance.numpy(), (mass * (level - mean) ** 2).sum(0), rtol=1e-4, atol=1e-9)


def test_training_refuses_samples_that_carry_no_gradient():
    q = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.zeros(2), torch.ones(2)))
    with pytest.raises(ConfigError, match="found MixtureSameFamily: choose another encoder"):
        draw(q)
    with torch.no_grad():
        assert draw(q, (3,))[0].shape == (3,)


@pytest.mark.parametrize(("x_shape", "logits_shape"), [((1, 28, 28), (5, 1, 28, 28)), ((3, 1, 1, 131), (1, 1, 131))])
def test_independent_bernoulli_is_pytorchs(x_shape, logits_shape):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(x_shape, generator=generator, dtype=torch.float64).round()
    logits = (30 * torch.randn(logits_shape, generator=generator, dtype=torch.float64)).requires_grad_()
    found, expected = (
        kind(td.Bernoulli(logits=logits, validate_args=False), 3, validate_args=False).log_prob(x)
        for kind in (IndependentBernoulli, td.Independent)
    )
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value.square().sum(), logits)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_independent_bernoulli_does_not_underflow():
    logits = torch.zeros(100_000)
    p = IndependentBernoulli(td.Bernoulli(logits=logits), 1)
    torch.testing.assert_close(p.log_prob(torch.ones(100_000)), torch.tensor(-100_000 * math.log(2)))


def test_independent_bernoulli_is_exact_for_confident_pixels():
    logits = torch.tensor([-60.0, 60.0]).repeat(392)
    p = IndependentBernoulli(td.Bernoulli(logits=logits), 1)
    assert p.log_prob((logits > 0).float()) == 0
    torch.testing.assert_close(p.log_prob((logits < 0).float()), torch.tensor(-784 * 60.0))


def test_bernoullis_of_stacked_models_have_the_gradient_written_out():
    """The gradient of a product looks for zeros, for which it waits, so a CUDA graph could not be captured."""
    logits, x = torch.randn(3, 5, requires_grad=True), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])

    def log_prob(logits):
        return IndependentBernoulli(td.Bernoulli(logits=logits), 1).log_prob(x)

    values = torch.vmap(log_prob)(logits)
    seen, left = set(), [values.grad_fn]
    while left:
        node = left.pop()
        seen.add(type(node).__name__)
        left += [parent for parent, _ in node.next_functions if parent is not None]
    assert not any("Prod" in name for name in seen)
    torch.testing.assert_close(torch.autograd.grad(values.sum(), logits)[0], x - logits.sigmoid())
