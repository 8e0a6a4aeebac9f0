"""Against SciPy, and against numerical integration of SciPy's densities."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.distributions as td

from vaelab.distributions import Logistic, Normal, Quantised
from vaelab.randomness import drawing_from

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


def test_logistic_is_scipys():
    x, loc, scale = tensor(np.linspace(-9, 9, 41)), tensor(LOC), tensor(SCALE)
    p, known = Logistic(loc, scale), scipy.stats.logistic(LOC, SCALE)
    np.testing.assert_allclose(p.log_prob(x), known.logpdf(x), rtol=1e-12)
    np.testing.assert_allclose(p.cdf(x), known.cdf(x), rtol=1e-12)
    np.testing.assert_allclose([p.mean, p.variance, p.stddev], [known.mean(), known.var(), known.std()], rtol=1e-12)


def test_logistic_density_integrates_to_one():
    p = Logistic(tensor(LOC), tensor(SCALE))
    total, _ = scipy.integrate.quad(lambda x: p.log_prob(tensor(x)).exp().item(), LOC - 12, LOC + 12, points=[LOC])
    assert total == pytest.approx(1, abs=1e-9)


def test_logistic_gradients_are_finite_far_in_both_tails():
    loc = torch.zeros(2, requires_grad=True)
    log_prob = Logistic(loc, torch.tensor(1e-3)).log_prob(torch.tensor([-5.0, 5.0]))
    np.testing.assert_allclose(log_prob.detach(), -5000 + math.log(1000), rtol=1e-6)
    log_prob.sum().backward()
    np.testing.assert_allclose(loc.grad, [-1000, 1000])


def test_logistic_draws_are_those_of_the_distribution():
    torch.manual_seed(0)
    draws = Logistic(tensor(LOC), tensor(SCALE)).sample((20_000,))
    assert scipy.stats.kstest(draws, scipy.stats.logistic(LOC, SCALE).cdf).pvalue > 0.01
    assert draws.mean().item() == pytest.approx(LOC, abs=5 * SCALE * 1.82 / math.sqrt(20_000))
    # the kurtosis of a logistic is 4.2, so the variance of its sample variance is 3.2 sigma^4 / n
    expected = (math.pi * SCALE) ** 2 / 3
    assert draws.var().item() == pytest.approx(expected, rel=5 * math.sqrt(3.2 / 20_000))


def test_logistic_draws_follow_location_and_scale():
    loc, scale = tensor([0.0, 1.0]).requires_grad_(), tensor([1.0, 2.0]).requires_grad_()
    draws = Logistic(loc, scale).rsample((5,))
    assert draws.shape == (5, 2)
    draws.sum().backward()
    np.testing.assert_allclose(loc.grad, 5)
    np.testing.assert_allclose(scale.grad, ((draws - loc) / scale).detach().sum(0))


def test_logistic_draws_of_stacked_models_are_those_of_each_alone():
    def draw(loc):
        return Logistic(loc, torch.ones(4)).rsample()

    with drawing_from([torch.Generator().manual_seed(seed) for seed in (1, 2)]):
        stacked = torch.vmap(draw, randomness="error")(torch.zeros(2, 4))
    for seed, found in zip((1, 2), stacked, strict=True):
        torch.manual_seed(seed)
        torch.testing.assert_close(found, draw(torch.zeros(4)))


def test_logistic_broadcasts_expands_and_validates():
    p = Logistic(torch.zeros(3), torch.tensor(1.0))
    assert p.expand((2, 3)).log_prob(torch.zeros(3)).shape == (2, 3)
    assert td.Independent(p, 1).expand((4,)).sample().shape == (4, 3)
    with pytest.raises(ValueError, match="scale"):
        Logistic(torch.zeros(3), torch.tensor(-1.0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [1e-12, 1e-6, 1e-3, 1 / 32, 1.0, 20.0, 90.0])
@pytest.mark.parametrize("middle", [-1000, -40, -3, -1e-3, 0, 0.5, 2, 12, 40, 1000])
def test_log_mass_is_the_integral_of_the_density(family, middle, width):
    make, known = FAMILIES[family]
    a, b = middle - width / 2, middle + width / 2
    found = make(tensor(0.0), tensor(1.0)).log_mass(tensor(a), tensor(b))
    assert found.item() == pytest.approx(integrated_log_mass(known, a, b), rel=1e-12, abs=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [-1000.0, -40.0, -1.0, 0.0, 3.0, 40.0])
def test_log_mass_of_a_half_line_is_scipys_tail(family, end):
    make, known = FAMILIES[family]
    p, infinity = make(tensor(LOC), tensor(SCALE)), tensor(math.inf)
    at = tensor(LOC + SCALE * end)
    assert p.log_mass(-infinity, at).item() == pytest.approx(known.logcdf(end), rel=1e-12, abs=1e-300)
    assert p.log_mass(at, infinity).item() == pytest.approx(known.logsf(end), rel=1e-12, abs=1e-300)
    assert p.log_mass(-infinity, infinity).item() == 0
    assert p.log_mass(at, at).item() == -math.inf


@pytest.mark.parametrize("family", FAMILIES)
def test_log_mass_scales_with_location_and_scale(family):
    make, known = FAMILIES[family]
    for a, b in ((-40, -39), (-0.5, 0.25), (38.5, 38.5 + 2**-20)):
        found = make(tensor(LOC), tensor(SCALE)).log_mass(tensor(LOC + SCALE * a), tensor(LOC + SCALE * b))
        assert found.item() == pytest.approx(integrated_log_mass(known, a, b), rel=1e-12, abs=1e-8)


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
    p = Quantised(make(loc, scale), levels)
    total = p.log_prob(torch.arange(levels)).exp().sum(1)
    np.testing.assert_allclose(total, 1, rtol=1e-11)


@pytest.mark.parametrize("family", FAMILIES)
def test_mass_of_a_level_is_the_integral_over_its_cell(family):
    make, known = FAMILIES[family]
    p = Quantised(make(tensor(LOC), tensor(SCALE)), 17)
    for level in range(17):
        begin, end = level / 17 if level else -math.inf, (level + 1) / 17 if level < 16 else math.inf
        expected, _ = scipy.integrate.quad(known(LOC, SCALE).pdf, begin, end, epsabs=0, epsrel=1e-10)
        assert p.log_prob(tensor(float(level))).exp().item() == pytest.approx(expected, rel=1e-9)


def test_without_log_mass_the_cdf_serves_until_it_underflows():
    x = tensor([0.0, 3.0, 200.0, 255.0])
    p = Quantised(td.Laplace(tensor(0.2), tensor(0.1)), 256)
    known = scipy.stats.laplace(0.2, 0.1)
    edges = np.array([[-np.inf, 1], [3, 4], [200, 201], [255, np.inf]]) / 256
    np.testing.assert_allclose(p.log_prob(x), np.log(np.diff(known.cdf(edges))[:, 0]), rtol=1e-9)
    assert Quantised(td.Laplace(tensor(0.0), tensor(1e-3)), 256).log_prob(tensor(128.0)) == -math.inf


@pytest.mark.parametrize("pixels", [td.StudentT(tensor(3.0)), td.Beta(tensor(1.0), tensor(2.0))])
def test_without_log_mass_and_cdf_levels_are_refused(pixels):
    with pytest.raises(ValueError, match=rf"{type(pixels).__name__} cannot .* give it a method log_mass\("):
        Quantised(pixels, 256).log_prob(tensor(3.0))


@pytest.mark.slow
@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("make", [Normal, Logistic, td.Laplace])
def test_draws_of_levels_have_their_moments(make, levels):
    torch.manual_seed(0)
    p = Quantised(make(tensor([-0.1, 0.4, 0.97]), tensor([0.1, 0.2, 0.1])), levels)
    draws, n = p.sample((20_000,)), 20_000
    assert p.support.check(draws).all()
    assert draws.unique().numel() > 10
    assert ((draws.mean(0) - p.mean).abs() < 5 * p.stddev / math.sqrt(n)).all()
    fourth = (draws - draws.mean(0)).pow(4).mean(0)
    assert ((draws.var(0) - p.variance).abs() < 5 * ((fourth - p.variance**2) / n).sqrt()).all()


def test_levels_expand():
    p = Quantised(Logistic(torch.zeros(3), torch.ones(3)), 17).expand((2, 3))
    assert p.log_prob(torch.zeros(3)).shape == p.sample().shape == p.mean.shape == (2, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mass_of_a_level_is_above_its_dequantised_bound(family):
    p = FAMILIES[family][0](tensor(LOC), tensor(0.02))
    level, u = torch.arange(17.0, dtype=torch.float64), (torch.arange(4000) + 0.5) / 4000
    bound = p.log_prob((level + u[:, None]) / 17).mean(0) - math.log(17)
    assert (bound < Quantised(p, 17).log_prob(level)).all()
