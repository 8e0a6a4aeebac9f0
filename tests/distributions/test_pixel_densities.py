"""Densities of unit pixels, against SciPy, mpmath and numerical integration."""

import math

import mpmath
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch

from tests.helpers.distributions import assert_samples_have_its_moments, assert_total_is_one
from vaelab.distributions import (
    Beta,
    ContinuousBernoulli,
    Laplace,
    Logistic,
    LogitNormal,
    Normal,
    Quantised,
    StudentT,
    mean_or_sample,
)

mpmath.mp.dps = 60
LOGITS = [-200, -50, -20, -3, -0.0501, -0.0499, -1e-4, 0, 1e-12, 0.03, 0.2, 7, 20, 50, 200]


def tensor(*x):
    return torch.tensor(x if len(x) > 1 else x[0], dtype=torch.float64)


PLACED = {
    "laplace": Laplace(tensor(0.3), tensor(0.2)),
    "student t": StudentT(tensor(9.0), tensor(0.3), tensor(0.2)),
    "beta": Beta(tensor(2.5), tensor(1.5)),
    "beta of both ends": Beta(tensor(0.5), tensor(0.7)),
    "continuous bernoulli": ContinuousBernoulli(tensor(-4.0)),
    "continuous bernoulli near 0": ContinuousBernoulli(tensor(0.02)),
    "logit-normal": LogitNormal(tensor(0.7), tensor(1.3)),
    "logit-normal of both ends": LogitNormal(tensor(-0.7), tensor(6.0)),
}
in_cells = pytest.mark.parametrize("name", [name for name in PLACED if hasattr(PLACED[name], "log_mass")])


@pytest.mark.parametrize("name", PLACED)
def test_each_integrates_to_one_and_draws_its_moments(name):
    assert_samples_have_its_moments(PLACED[name])
    if "both ends" not in name:  # where the integrand is infinite, or nearly so
        assert_total_is_one(PLACED[name])


@in_cells
@pytest.mark.parametrize(("lower", "upper"), [(0.2, 0.21), (0.25, 0.6), (0.3, 0.3 + 1e-6), (0.9, 0.95)])
def test_log_mass_is_the_integral_of_the_density(name, lower, upper):
    p = PLACED[name]
    total, _ = scipy.integrate.quad(lambda x: p.log_prob(tensor(x)).exp().item(), lower, upper, points=[0.3])
    assert p.log_mass(tensor(lower), tensor(upper)).item() == pytest.approx(math.log(total), abs=1e-8)


@in_cells
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_masses_of_levels_sum_to_one(name, levels):
    p = PLACED[name]
    values = torch.arange(levels).double()
    masses = Quantised(p, levels).log_prob(values).exp()
    assert masses.sum().item() == pytest.approx(1, abs=1e-11)


@pytest.mark.parametrize("family", [Laplace, Logistic, Normal])
def test_survival_function_gives_the_mean_level_of_the_masses(family):
    levels = Quantised(family(tensor(-0.2, 0.4, 0.97), tensor(0.05, 0.3, 0.1)), 17)
    expected = levels._expectation(lambda level: level)
    torch.testing.assert_close(levels.mean, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("end", [-1000.0, -1.0, 0.0, 40.0])
def test_laplace_mass_of_a_half_line_is_scipys_tail(end):
    p, infinity = Laplace(tensor(0.0), tensor(1.0)), tensor(math.inf)
    below = end - math.log(2) if end < 0 else math.log1p(-math.exp(-end) / 2)  # SciPy's own underflows at -1000
    assert p.log_mass(-infinity, tensor(end)).item() == pytest.approx(below, rel=1e-12, abs=1e-15)
    assert p.log_mass(tensor(end), infinity).item() == pytest.approx(scipy.stats.laplace.logsf(end), rel=1e-12)
    assert p.log_mass(-infinity, infinity).item() == 0


def test_laplace_mass_has_the_gradients_of_finite_differences():
    lower = tensor(-math.inf, -math.inf, 0.4, 0.4, -9.0, 9.0, 0.0)
    upper = tensor(0.4, math.inf, math.inf, 0.4 + 1e-6, -8.9, 9.2, 1.0)
    arguments = (tensor(*[0.375] * 7).requires_grad_(), tensor(*[0.25] * 7).requires_grad_())
    assert torch.autograd.gradcheck(lambda *of: Laplace(*of).log_mass(lower, upper), arguments, atol=1e-4)


@pytest.mark.parametrize("df", [2.1, 10.0, 1e4, 1e8])
def test_student_t_is_scipys_in_float32(df):
    x = torch.tensor([-30.0, -1.0, 0.0, 0.25, 5.0])
    found = StudentT(torch.tensor(df), torch.tensor(0.25), torch.tensor(0.5)).log_prob(x)
    expected = scipy.stats.t(np.float32(df).astype(float), 0.25, 0.5).logpdf(x.double())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, rtol=3e-7, atol=3e-7)


def test_student_t_has_scipys_variance_and_gradients_of_finite_differences():
    arguments = tuple(tensor(*values).requires_grad_() for values in [(2.5, 80.0), (0.2, -0.3), (0.1, 2.0)])
    np.testing.assert_allclose(StudentT(*arguments).variance.detach(), scipy.stats.t([2.5, 80.0], 0, [0.1, 2.0]).var())
    assert torch.autograd.gradcheck(lambda *of: StudentT(*of).log_prob(tensor(0.4)), arguments)


@pytest.mark.parametrize(("a", "b"), [(0.01, 0.01), (0.5, 3.0), (1.0, 1.0), (1e5, 1e5), (1e5, 0.01)])
def test_beta_is_mpmaths_in_float32(a, b):
    x = torch.tensor([2.0**-24, 0.1, 0.499, 0.999, 1 - 2.0**-24])
    p = Beta(torch.tensor(a), torch.tensor(b))
    exact_a, exact_b = mpmath.mpf(p.concentration1.item()), mpmath.mpf(p.concentration0.item())
    expected = [
        (exact_a - 1) * mpmath.log(v) + (exact_b - 1) * mpmath.log(1 - v) - mpmath.log(mpmath.beta(exact_a, exact_b))
        for v in map(mpmath.mpf, x.tolist())
    ]
    np.testing.assert_allclose(p.log_prob(x), [float(value) for value in expected], rtol=3e-7, atol=3e-6)


def test_beta_draws_both_ends_at_small_concentrations():
    draws = Beta(torch.full((20_000,), 0.01), torch.tensor(0.01)).sample()
    inner = scipy.stats.beta(0.01, 0.01).cdf([0.4, 0.6])
    assert ((draws > 0.4) & (draws < 0.6)).double().mean().item() == pytest.approx(inner[1] - inner[0], abs=2e-3)
    assert ((draws >= 0) & (draws <= 1)).all()


@pytest.mark.parametrize(
    "make", [lambda o: Beta(o.exp(), (-o).exp()), ContinuousBernoulli, lambda o: LogitNormal(o, torch.tensor(0.01))]
)
def test_ends_of_the_unit_interval_are_finite(make):
    outputs = torch.tensor([[-4.6], [0.0], [4.6]], requires_grad=True)
    log_prob = make(outputs).log_prob(torch.tensor([0.0, 1.0]))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert outputs.grad.isfinite().all()


def exact(logit):
    """log C, mean and variance of the continuous Bernoulli."""
    e = mpmath.mpf(logit or 1e-15)
    constant = mpmath.log(e / mpmath.tanh(e / 2))
    return constant, mpmath.mpf(1) / 2 + mpmath.coth(e / 2) / 2 - 1 / e, 1 / e**2 - mpmath.csch(e / 2) ** 2 / 4


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_is_mpmaths_in_float32(logit):
    p, x = ContinuousBernoulli(torch.tensor(float(logit))), torch.tensor([0.0, 0.3, 0.999, 1.0])
    e = p.logits.item()
    constant, mean, variance = exact(e)
    expected = [mpmath.mpf(v) * e - mpmath.log(1 + mpmath.exp(e)) + constant for v in x.tolist()]
    np.testing.assert_allclose(p.log_prob(x), [float(value) for value in expected], rtol=3e-7, atol=1e-6)
    assert p.mean.item() == pytest.approx(float(mean), rel=1e-6)
    assert p.variance.item() == pytest.approx(float(variance), rel=1e-5)


@pytest.mark.parametrize("logit", LOGITS)
def test_continuous_bernoulli_gradient_is_value_minus_mean(logit):
    logits = torch.tensor(float(logit), requires_grad=True)
    ContinuousBernoulli(logits).log_prob(torch.tensor(0.3)).backward()
    assert logits.grad.item() == pytest.approx(0.3 - float(exact(logits.item())[1]), abs=2e-6)


@pytest.mark.parametrize("logit", [-50.0, -1.0, -1e-9, 0.0, 0.04, 8.0, 200.0])
def test_continuous_bernoulli_draws_follow_its_cdf(logit):
    p = ContinuousBernoulli(torch.full((20_000,), logit))
    draws = p.sample()
    assert p.support.check(draws).all()

    def cdf(x):
        return np.expm1(logit * x) / np.expm1(logit) if logit else x

    assert scipy.stats.kstest(draws.double(), cdf).pvalue > 0.01


@pytest.mark.parametrize("x", [1e-6, 0.2, 0.999])
def test_logit_normal_is_the_derivative_of_its_cdf(x):
    def cdf(value):
        return mpmath.ncdf((mpmath.log(value / (1 - value)) - mpmath.mpf(0.7)) / mpmath.mpf(1.3))

    expected = float(mpmath.log(mpmath.diff(cdf, mpmath.mpf(x), h=mpmath.mpf(10) ** -25)))
    found = LogitNormal(tensor(0.7), tensor(1.3)).log_prob(tensor(x)).item()
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (-3.0, 0.01), (2.0, 10.0)])
def test_logit_normal_moments_are_integrals(loc, scale):
    p = LogitNormal(torch.tensor(loc), torch.tensor(scale))
    for power, found in ((1, p.mean), (2, p.variance + p.mean.square())):

        def integrand(y, power=power):
            return scipy.special.expit(loc + scale * y) ** power * scipy.stats.norm.pdf(y)

        total, _ = scipy.integrate.quad(integrand, -12, 12, epsabs=1e-12, limit=200)
        assert found.item() == pytest.approx(total, abs=3e-6)
    assert torch.equal(mean_or_sample(p), p.mean)


@pytest.mark.parametrize(
    "make",
    [
        lambda one: StudentT(2 * one, one, one, validate_args=True),
        lambda one: LogitNormal(one, -one, validate_args=True),
        lambda one: Beta(-one, one, validate_args=True),
        lambda one: ContinuousBernoulli(one * math.nan, validate_args=True),
    ],
)
def test_wrong_arguments_are_refused(make):
    with pytest.raises(ValueError, match="constraint"):
        make(torch.ones(3))
