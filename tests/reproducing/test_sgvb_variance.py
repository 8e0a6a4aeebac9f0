"""The measured variances of estimators against quadrature over the noise, on a linear-Gaussian model."""

import numpy as np
import pytest
import torch
import torch.distributions as td
from torch import nn
from torch.func import functional_call, grad, vmap

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.reproducing.sgvb_variance import estimator_variances, noise_share


class Bound(nn.Module):
    """An estimator of the bound of one x, for given noise."""

    def __init__(self, vae, kind):
        super().__init__()
        self.vae, self.kind = vae, kind

    def forward(self, x, noise):
        q, p = self.vae.encode(x), self.vae.latent_prior()
        z = q.base_dist.mean + q.base_dist.stddev * noise
        likelihood = self.vae.log_likelihood(x, z)
        if self.kind == "B":
            return likelihood - td.kl_divergence(q, p)
        if self.kind == "A":
            return likelihood + p.log_prob(z) - q.log_prob(z)
        z = z.detach()
        return (likelihood + p.log_prob(z) - q.log_prob(z)).detach() * q.log_prob(z)


def quadrature(vae, x, kind):
    """Return the weights of nodes, and for each x and node the estimate, and its gradients by phi and by theta.

    The Gauss-Hermite rule is exact, because the square of a gradient is a polynomial of degree 8 in the noise.
    """
    nodes, weights = (torch.tensor(n) for n in np.polynomial.hermite_e.hermegauss(6))
    noise, weights = torch.cartesian_prod(nodes, nodes), torch.cartesian_prod(weights, weights).prod(1)
    bound = Bound(vae, kind)
    parameters = {name: p.detach() for name, p in bound.named_parameters()}

    def value(parameters, x, noise):
        return functional_call(bound, parameters, (x, noise))

    def everywhere(function):
        return vmap(vmap(function, (None, None, 0)), (None, 0, None))(parameters, x, noise)

    gradients = {name: g.flatten(2) for name, g in everywhere(grad(value)).items()}
    parts = [torch.cat([g for name, g in gradients.items() if part in name], -1) for part in ("encoder", "decoder")]
    return weights / weights.sum(), everywhere(value).unsqueeze(-1), *parts


def moments(weights, values):
    """Return the mean over nodes of each x, and the trace of the covariance."""
    means = torch.einsum("n,xnd->xd", weights, values)
    return means, torch.einsum("n,xnd->x", weights, (values - means.unsqueeze(1)).square())


def agrees(measured, exact, precision=0.4):
    assert measured.standard_error < precision * exact
    return abs(measured.value - exact) < 4 * measured.standard_error + 1e-9 * exact


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2), detune=0.3)
    return vae.requires_grad_(False), draw_data(vae, 12)


@pytest.fixture(scope="module")
def found(model):
    return estimator_variances(*model, seed=0, num_repeats=25, batch_size=12)


@pytest.mark.parametrize(
    ("quantity", "part", "kinds"),
    [("bound", 0, "AB"), ("encoder", 1, "AB"), ("decoder", 2, "AB"), ("score_function", 1, "NA")],
)
def test_variances_of_estimators_are_those_of_quadrature(quantity, part, kinds, model, found):
    vae, x = model
    first, second = [
        (moments(weights, values[part])[1].sum() / 12**2).item()
        for weights, *values in (quadrature(vae, x, kind) for kind in kinds)
    ]
    comparison = getattr(found, quantity)
    assert agrees(comparison.first, first)
    assert agrees(comparison.second, second)
    assert agrees(comparison.ratio, first / second)


def test_quadrature_gives_the_variance_of_a_square(model):
    vae, x = model
    q, w = vae.encode(x).base_dist, vae.decoder.head.loc.linear.weight
    centre = (x.flatten(1) - vae.decoder.head.loc.linear.bias) @ w / w.square().sum(0)
    factor, variance = w.square().sum(0) / (2 * 0.5**2), q.variance  # log p(x|z) = c - factor (z - centre)^2
    exact = (factor.square() * (2 * variance.square() + 4 * variance * (q.mean - centre).square())).sum(1)
    weights, values, *_ = quadrature(vae, x, "B")
    torch.testing.assert_close(moments(weights, values)[1], exact)


def test_estimator_a_has_no_variance_at_the_posterior_but_b_has():
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2))
    bound = estimator_variances(vae, draw_data(vae, 4), seed=0, num_repeats=3, batch_size=4).bound
    assert bound.first.value < 1e-20
    assert bound.second.value > 0.01


@pytest.mark.parametrize(("batch_size", "num_samples"), [(6, 1), (3, 4)])
def test_shares_of_noise_are_those_of_quadrature(batch_size, num_samples, model):
    vae, x = model
    weights, _, *parts = quadrature(vae, x, "B")
    means, variances = moments(weights, torch.cat(parts, -1))
    of_z = variances.mean().item() / num_samples
    of_x = means.var(0).sum().item()
    share = noise_share(vae, x, 0, batch_size, num_samples, num_repeats=30)
    assert agrees(share.noise, of_z / batch_size)
    assert agrees(share.total, (of_x + of_z) / batch_size)
    assert agrees(share.share, of_z / (of_x + of_z))
    assert abs(share.signal.value - (means.mean(0).square().sum() - of_x / 12)) < 4 * share.signal.standard_error


def test_a_seed_repeats_the_measurement(model):
    vae, x = model
    before = [parameter.clone() for parameter in vae.parameters()]
    first, again, other = [noise_share(vae, x, seed, 2, 1, num_repeats=2) for seed in (0, 0, 1)]
    assert first == again != other
    assert all((a == b).all() for a, b in zip(before, vae.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_too_few_images_are_refused(model):
    with pytest.raises(ValueError, match="expected at least 14 images, found 12: give more, or lower batch_size"):
        noise_share(*model, seed=0, batch_size=7)
