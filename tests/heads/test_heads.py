import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.distributions as td

from vaelab.distributions import draw
from vaelab.heads import (
    Bernoulli,
    DiagonalGaussian,
    FixedScale,
    Head,
    Logistic,
    OptimalScale,
    OverLevels,
    PerPixelScale,
    SharedScale,
)
from vaelab.networks import Network

EVENT = (1, 2, 3)


def vector(features, event_shape):
    """A network that gives vectors of so many features."""
    return Network((1,), event_shape, (features,))


def weights(layer):
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


def test_bernoulli_is_the_formula_of_appendix_c1():
    head, h = Bernoulli(vector(4, EVENT)).double(), torch.randn(7, 4, dtype=torch.float64)
    x = torch.randint(0, 2, (7, *EVENT), dtype=torch.float64)
    w2, b2 = weights(head.logits.linear)
    y = 1 / (1 + np.exp(-(h.numpy() @ w2.T + b2)))
    flat = x.flatten(1).numpy()
    expected = (flat * np.log(y) + (1 - flat) * np.log(1 - y)).sum(1)
    np.testing.assert_allclose(head(h).log_prob(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(expected, scipy.stats.bernoulli.logpmf(flat, y).sum(1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sigmoid_mean", [False, True])
def test_gaussian_is_the_formula_of_appendix_c2(sigmoid_mean):
    head, h = (
        DiagonalGaussian(vector(4, EVENT), sigmoid_mean=sigmoid_mean).double(),
        torch.randn(7, 4, dtype=torch.float64),
    )
    x = torch.rand(7, *EVENT, dtype=torch.float64)
    w4, b4 = weights(head.loc.linear)
    w5, b5 = weights(head.scale.layer.linear)
    mu = h.numpy() @ w4.T + b4
    mu = 1 / (1 + np.exp(-mu)) if sigmoid_mean else mu
    log_variance = h.numpy() @ w5.T + b5
    flat = x.flatten(1).numpy()
    expected = (-0.5 * (np.log(2 * np.pi) + log_variance + (flat - mu) ** 2 / np.exp(log_variance))).sum(1)
    found = head(h).log_prob(x).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        found, scipy.stats.norm.logpdf(flat, mu, np.exp(log_variance / 2)).sum(1), rtol=1e-12, atol=1e-12
    )


def test_mean_and_log_variance_are_parallel_layers_on_one_h():
    head = DiagonalGaussian(vector(4, EVENT))
    assert head.loc.linear.in_features == head.scale.layer.linear.in_features == 4
    assert head.loc.linear.weight is not head.scale.layer.linear.weight


def test_floor_holds_and_is_counted():
    head = DiagonalGaussian(vector(4, EVENT), scale=lambda network: PerPixelScale(network, min_scale=0.01))
    with torch.no_grad():
        head.scale.layer.linear.weight.zero_()
        head.scale.layer.linear.bias.copy_(torch.tensor([-80.0, -80.0, -80.0, 0.0, 0.0, 0.0]))
    p = head(torch.randn(9, 4))
    assert p.stddev.min().item() == pytest.approx(0.01)
    assert head.monitors()["scale_at_floor"].item() == pytest.approx(0.5)
    head.eval()(torch.randn(9, 4))
    assert head.monitors()["scale_at_floor"].item() == 0  # counted anew, and while training only


def test_gradient_survives_at_the_floor():
    head = DiagonalGaussian(vector(4, EVENT), scale=lambda network: PerPixelScale(network, min_scale=0.01))
    with torch.no_grad():
        head.scale.layer.linear.bias.fill_(math.log(0.01**2))
    head(torch.zeros(1, 4)).log_prob(torch.full((1, *EVENT), 5.0)).sum().backward()
    assert (head.scale.layer.linear.bias.grad.abs() > 0).all()


def test_without_a_floor_a_tiny_variance_has_finite_gradients():
    head = DiagonalGaussian(vector(4, EVENT))
    with torch.no_grad():
        head.scale.layer.linear.bias.fill_(-120.0)  # exp(-120) is 0 in float32
    head(torch.randn(2, 4)).base_dist.scale.sum().backward()
    assert torch.isfinite(head.scale.layer.linear.bias.grad).all()


def test_shared_scale_is_one_learnt_number():
    head = DiagonalGaussian(vector(4, EVENT), scale=lambda network: SharedScale(network, initial=0.2))
    p = head(torch.randn(5, 4))
    torch.testing.assert_close(p.stddev, torch.full((5, *EVENT), 0.2))
    assert [name for name, _ in head.scale.named_parameters()] == ["value"]


def test_fixed_scale_is_never_learnt():
    head = DiagonalGaussian(vector(4, EVENT), scale=lambda network: FixedScale(network, value=0.3))
    torch.testing.assert_close(head(torch.randn(5, 4)).stddev, torch.full((5, *EVENT), 0.3))
    assert not list(head.scale.parameters())


def test_optimal_scale_is_the_root_mean_square_of_training_residuals():
    head = DiagonalGaussian(vector(4, EVENT), scale=lambda network: OptimalScale(network, momentum=0.999))
    residuals = []
    for _ in range(50):
        p, x = head(torch.randn(8, 4)), torch.randn(8, *EVENT)
        head.observe(p, x)
        residuals.append((x - p.mean).square().mean().item())
    expected = math.sqrt(np.mean(residuals))
    assert head(torch.zeros(1, 4)).stddev.flatten()[0].item() == pytest.approx(expected, rel=1e-5)
    assert head.monitors()["optimal_scale"].item() == pytest.approx(expected, rel=1e-5)
    assert "scale.mean_square" in head.state_dict()


def test_optimal_scale_maximises_the_likelihood_of_what_it_observed():
    head = DiagonalGaussian(vector(4, EVENT), scale=OptimalScale)
    features, x = torch.randn(64, 4), torch.randn(64, *EVENT)
    head.observe(head(features), x)
    best = head(features).log_prob(x).mean()
    for factor in (0.9, 1.1):
        other = scipy.stats.norm.logpdf(
            x.numpy(), head(features).mean.detach().numpy(), factor * head(features).stddev.detach().numpy()
        )
        assert other.sum((1, 2, 3)).mean() < best.item()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PerPixelScale(vector(4, EVENT), min_scale=-1),
        lambda: SharedScale(vector(4, EVENT), initial=0),
        lambda: FixedScale(vector(4, EVENT), value=-0.1),
        lambda: OptimalScale(vector(4, EVENT), momentum=1),
    ],
)
def test_scales_refuse_what_cannot_be_meant(make):
    with pytest.raises(ValueError, match="found"):
        make()


@pytest.mark.parametrize("sigmoid_mean", [False, True])
def test_logistic_head_is_scipys_logistic_of_two_parallel_layers(sigmoid_mean):
    head, h = Logistic(vector(4, EVENT), sigmoid_mean=sigmoid_mean).double(), torch.randn(7, 4, dtype=torch.float64)
    x = torch.rand(7, *EVENT, dtype=torch.float64)
    (w, b), (w_scale, b_scale) = weights(head.loc.linear), weights(head.scale.layer.linear)
    mu = h.numpy() @ w.T + b
    mu = 1 / (1 + np.exp(-mu)) if sigmoid_mean else mu
    s = np.exp((h.numpy() @ w_scale.T + b_scale) / 2)
    expected = scipy.stats.logistic.logpdf(x.flatten(1).numpy(), mu, s).sum(1)
    np.testing.assert_allclose(head(h).log_prob(x).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


def test_logistic_head_refuses_the_optimal_scale():
    with pytest.raises(ValueError, match=r"found OptimalScale, .* choose vaelab.heads.SharedScale"):
        Logistic(vector(4, EVENT), scale=OptimalScale)


def test_logistic_head_shows_its_scale_the_squared_residuals():
    head, seen = Logistic(vector(4, EVENT), scale=SharedScale), []
    head.scale.observe = lambda distribution, event: seen.append(event - distribution.mean)
    p = head(torch.randn(5, 4))
    head.observe(p, p.mean + 2)
    torch.testing.assert_close(seen[0], torch.full((5, *EVENT), 2.0))


class Laplace(Head):
    pixels, measure, family = "unit", "density", td.Laplace

    def __init__(self, network):
        super().__init__(network)
        self.loc = network.output_layer()

    def forward(self, features):
        loc = self.loc(features).sigmoid()
        return self.independent(self.family(loc, torch.full_like(loc, 0.2)))


class Joint(Laplace):
    def forward(self, features):
        flat = self.loc(features).flatten(-3)
        return td.LowRankMultivariateNormal(flat, torch.ones(flat.shape[-1], 1), torch.ones(flat.shape[-1]))


@pytest.mark.parametrize("levels", [17, 256])
@pytest.mark.parametrize("head", [DiagonalGaussian, Logistic, Laplace])
def test_over_levels_is_the_mass_of_each_cell(head, levels):
    torch.manual_seed(0)
    unit, h = head(vector(4, (1, 1, 2))).double(), torch.randn(3, 4, dtype=torch.float64)
    p, known = OverLevels(unit, levels)(h), unit(h)
    assert (p.batch_shape, p.event_shape) == ((3,), (1, 1, 2))
    one_pixel = p.base_dist.log_prob(torch.arange(levels, dtype=torch.float64).view(-1, 1, 1, 1, 1))
    np.testing.assert_allclose(one_pixel.exp().sum(0).detach(), 1, rtol=1e-11)
    x = torch.tensor([[[0, 3]], [[levels // 2, 7]], [[5, levels - 1]]], dtype=torch.float64)[:, None]
    family = {DiagonalGaussian: scipy.stats.norm, Logistic: scipy.stats.logistic, Laplace: scipy.stats.laplace}[head]
    scale = known.base_dist.scale.detach().numpy()
    of = family(known.mean.detach().numpy(), scale)
    begin = np.where(x == 0, -np.inf, x / levels)
    end = np.where(x == levels - 1, np.inf, (x + 1) / levels)
    expected = np.log(of.cdf(end) - of.cdf(begin)).sum((1, 2, 3))
    np.testing.assert_allclose(p.log_prob(x).detach(), expected, rtol=1e-10)


def test_over_levels_shares_and_trains_the_parameters_of_the_head():
    unit = Logistic(vector(4, EVENT))
    head = OverLevels(unit, 256)
    assert (head.pixels, head.measure) == ("levels", "mass")
    assert head.event_shape == EVENT
    assert {id(p) for p in head.parameters()} == {id(p) for p in unit.parameters()}
    p = head(torch.randn(9, 4))
    x = p.sample()
    assert p.support.check(x).all()
    p.log_prob(x).sum().backward()
    assert all(parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0 for parameter in unit.parameters())


def test_over_levels_shows_the_optimal_scale_residuals_of_unit_pixels():
    head = OverLevels(DiagonalGaussian(vector(4, EVENT), scale=OptimalScale), 256)
    features, x = torch.randn(64, 4), torch.randint(0, 256, (64, *EVENT)).float()
    head.observe(head(features), x)
    residual = (x + 0.5) / 256 - head.head(features).mean
    assert head.monitors()["optimal_scale"].item() == pytest.approx(residual.square().mean().sqrt().item(), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OverLevels(Bernoulli(vector(4, EVENT)), 256), "found Bernoulli, of a mass over binary pixels"),
        (
            lambda: OverLevels(OverLevels(Logistic(vector(4, EVENT)), 256), 256),
            "found OverLevels, of a mass over levels pixels",
        ),
        (lambda: OverLevels(Logistic(vector(4, EVENT)), 1), "at least 2, found 1"),
        (
            lambda: OverLevels(Joint(vector(4, EVENT)), 256)(torch.zeros(4)),
            "independent pixels, found LowRank.* of Joint",
        ),
    ],
)
def test_over_levels_refuses_what_has_no_levels(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_scale_whose_axes_do_not_fit_is_refused():
    class PerRow(SharedScale):
        def log_variance(self, features):
            return torch.zeros(2, 3)

    with pytest.raises(ValueError, match="PerRow gives a scale of shape"):
        DiagonalGaussian(vector(4, EVENT), scale=PerRow)(torch.randn(5, 4))


def test_training_refuses_samples_that_carry_no_gradient():
    q = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.zeros(2), torch.ones(2)))
    with pytest.raises(NotImplementedError):
        draw(q)
    with torch.no_grad():
        assert draw(q, (3,))[0].shape == (3,)
