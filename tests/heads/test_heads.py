import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.distributions as td

from vaelab.heads import (
    Bernoulli,
    DiagonalGaussian,
    FixedScale,
    Laplace,
    Logistic,
    OptimalScale,
    OverLevels,
    PerPixelScale,
    SharedScale,
)
from vaelab.networks import Network

EVENT = (1, 2, 3)


def vector(event_shape=EVENT):
    """A network that gives vectors of 4 features."""
    return Network((1,), event_shape, (4,))


def gaussian(scale=PerPixelScale, **options):
    return DiagonalGaussian(vector(), scale=lambda network: scale(network, **options))


def applied(layer, h):
    return h.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def sigmoid(y):
    return 1 / (1 + np.exp(-y))


def test_bernoulli_is_the_formula_of_appendix_c1():
    head, h = Bernoulli(vector()).double(), torch.randn(7, 4, dtype=torch.float64)
    x = torch.randint(0, 2, (7, *EVENT), dtype=torch.float64)
    y, flat = sigmoid(applied(head.logits.linear, h)), x.flatten(1).numpy()
    expected = (flat * np.log(y) + (1 - flat) * np.log(1 - y)).sum(1)
    np.testing.assert_allclose(head(h).log_prob(x).detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sigmoid_mean", [False, True])
@pytest.mark.parametrize(
    ("make", "family"),
    [(DiagonalGaussian, scipy.stats.norm), (Logistic, scipy.stats.logistic), (Laplace, scipy.stats.laplace)],
)
def test_location_and_scale_are_parallel_layers_on_one_h(make, family, sigmoid_mean):
    head, h = make(vector(), sigmoid_mean=sigmoid_mean).double(), torch.randn(7, 4, dtype=torch.float64)
    x = torch.rand(7, *EVENT, dtype=torch.float64)
    mu, log_variance = applied(head.loc.linear, h), applied(head.scale.layer.linear, h)  # appendix C.2
    mu = sigmoid(mu) if sigmoid_mean else mu
    expected = family.logpdf(x.flatten(1).numpy(), mu, np.exp(log_variance / 2)).sum(1)
    np.testing.assert_allclose(head(h).log_prob(x).detach(), expected, rtol=1e-12, atol=1e-12)


def test_floor_holds_and_is_counted():
    head = gaussian(min_scale=0.01)
    with torch.no_grad():
        head.scale.layer.linear.weight.zero_()
        head.scale.layer.linear.bias.copy_(torch.tensor([-80.0, -80.0, -80.0, 0.0, 0.0, 0.0]))
    p = head(torch.randn(9, 4))
    assert p.stddev.min().item() == pytest.approx(0.01)
    assert head.monitors()["scale_at_floor"].item() == pytest.approx(0.5)
    head.eval()(torch.randn(9, 4))
    assert head.monitors()["scale_at_floor"].item() == 0  # counted anew, and while training only


def test_gradient_survives_below_the_floor():
    head = gaussian(min_scale=0.01)
    with torch.no_grad():
        head.scale.layer.linear.bias.fill_(math.log(0.01**2) - 3)
    head(torch.zeros(1, 4)).log_prob(torch.full((1, *EVENT), 5.0)).sum().backward()
    assert (head.scale.layer.linear.bias.grad.abs() > 0).all()


@pytest.mark.parametrize("log_variance", [-41.0, -60.0, -120.0])  # exp(-120) is 0 in float32
def test_adam_moves_a_tiny_variance_without_a_floor(log_variance):
    head = gaussian()
    bias = head.scale.layer.linear.bias
    with torch.no_grad():
        bias.fill_(log_variance)
    optimizer = torch.optim.Adam([bias], lr=1.0)
    q = head(torch.zeros(2, 4))
    (-q.log_prob(q.mean.detach() + 0.1)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(bias, torch.full_like(bias, log_variance + 1))


@pytest.mark.parametrize("min_scale", [0.0, 0.01])
def test_usual_scales_keep_their_bits_and_extreme_ones_their_gradient(min_scale):
    head = gaussian(min_scale=min_scale)
    bias = head.scale.layer.linear.bias
    with torch.no_grad():
        head.scale.layer.linear.weight.zero_()
        bias.copy_(torch.tensor([-39.0, -20.3, -1.7, 0.1, 5.9, 39.0]))
    usual = (bias.exp() + min_scale**2).sqrt() if min_scale else (0.5 * bias).exp()
    assert torch.equal(head(torch.zeros(1, 4)).base_dist.scale.flatten(), usual)
    with torch.no_grad():
        bias.copy_(torch.tensor([-400.0, -100.0, 0.0, 90.0, 200.0, 1e30]))
    q = head(torch.zeros(1, 4))
    td.kl_divergence(q, td.Independent(td.Normal(torch.zeros(EVENT), 1.0), len(EVENT))).sum().backward()
    assert bias.grad.isfinite().all()
    assert (bias.grad[3:] > 0).all()  # back to smaller scales
    assert min_scale or (bias.grad[:2] == -0.5).all()


@pytest.mark.parametrize(
    ("scale", "option", "learnt"), [(SharedScale, {"initial": 0.2}, ["value"]), (FixedScale, {"value": 0.2}, [])]
)
def test_one_scale_is_learnt_or_fixed(scale, option, learnt):
    head = gaussian(scale, **option)
    torch.testing.assert_close(head(torch.randn(5, 4)).stddev, torch.full((5, *EVENT), 0.2))
    assert [name for name, _ in head.scale.named_parameters()] == learnt


@pytest.mark.parametrize("momentum", [0.999, 0.5])
def test_optimal_scale_is_the_running_root_mean_square_of_training_residuals(momentum):
    head = gaussian(OptimalScale, momentum=momentum)
    mean_square = 0.0
    for step in range(1, 51):
        p, x = head(torch.randn(8, 4)), torch.randn(8, *EVENT)
        head.observe(p, x)
        weight = max(1 / step, 1 - momentum)
        mean_square += weight * ((x - p.mean).square().mean().item() - mean_square)
    expected = math.sqrt(mean_square)
    assert not head.scale.mean_square.requires_grad
    assert head(torch.zeros(1, 4)).stddev.flatten()[0].item() == pytest.approx(expected, rel=1e-5)
    assert head.monitors()["optimal_scale"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("scale", "option"),
    [
        (PerPixelScale, {"min_scale": -1}),
        (SharedScale, {"initial": 0}),
        (FixedScale, {"value": -0.1}),
        (OptimalScale, {"momentum": 1}),
    ],
)
def test_scales_refuse_what_cannot_be_meant(scale, option):
    with pytest.raises(ValueError, match="found"):
        gaussian(scale, **option)


def test_a_scale_whose_axes_do_not_fit_is_refused():
    class PerRow(SharedScale):
        def log_variance(self, features):
            return torch.zeros(2, 3)

    with pytest.raises(ValueError, match="PerRow gives a scale of shape"):
        gaussian(PerRow)(torch.randn(5, 4))


class WithoutMass(DiagonalGaussian):
    """A family that has a cdf, but no masses of intervals."""

    family = td.Laplace


class Joint(Laplace):
    def forward(self, features):
        flat = self.loc(features).flatten(-3)
        return td.LowRankMultivariateNormal(flat, torch.ones(flat.shape[-1], 1), torch.ones(flat.shape[-1]))


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize(
    ("head", "family"),
    [(DiagonalGaussian, scipy.stats.norm), (Logistic, scipy.stats.logistic), (WithoutMass, scipy.stats.laplace)],
)
def test_over_levels_is_the_mass_of_each_cell(head, family, levels):
    unit, h = head(vector((1, 1, 2))).double(), torch.randn(3, 4, dtype=torch.float64)
    p, known = OverLevels(unit, levels)(h), unit(h)
    assert (p.batch_shape, p.event_shape) == ((3,), (1, 1, 2))
    one_pixel = p.base_dist.log_prob(torch.arange(levels, dtype=torch.float64).view(-1, 1, 1, 1, 1))
    np.testing.assert_allclose(one_pixel.exp().sum(0).detach(), 1, rtol=1e-11)
    x = torch.tensor([[[0, 3]], [[levels // 2, 7]], [[5, levels - 1]]], dtype=torch.float64)[:, None]
    of = family(known.mean.detach().numpy(), known.base_dist.scale.detach().numpy())
    begin = np.where(x == 0, -np.inf, x / levels)
    end = np.where(x == levels - 1, np.inf, (x + 1) / levels)
    expected = np.log(of.cdf(end) - of.cdf(begin)).sum((1, 2, 3))
    np.testing.assert_allclose(p.log_prob(x).detach(), expected, rtol=1e-10)


def test_over_levels_shares_and_trains_the_parameters_of_the_head():
    unit = Logistic(vector())
    head = OverLevels(unit, 256)
    assert {id(p) for p in head.parameters()} == {id(p) for p in unit.parameters()}
    p = head(torch.randn(9, 4))
    x = p.sample()
    assert p.support.check(x).all()
    p.log_prob(x).sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0 for parameter in unit.parameters())


def test_over_levels_shows_the_optimal_scale_residuals_of_unit_pixels():
    head = OverLevels(gaussian(OptimalScale), 256)
    features, x = torch.randn(64, 4), torch.randint(0, 256, (64, *EVENT)).float()
    head.observe(head(features), x)
    residual = (x + 0.5) / 256 - head.head(features).mean
    assert head.monitors()["optimal_scale"].item() == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Bernoulli, "found Bernoulli, a mass over binary pixels"),
        (Joint, "independent pixels, found LowRank.* of Joint"),
    ],
)
def test_over_levels_refuses_what_has_no_levels(head, message):
    with pytest.raises(ValueError, match=message):
        OverLevels(head(vector()), 256)(torch.zeros(4))
