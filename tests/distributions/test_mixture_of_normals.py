"""Mixtures of normals: the density, and gradients of moments against closed forms."""

import math

import pytest
import torch
import torch.distributions as td

from tests.helpers.distributions import assert_stacked_models_draw_alone
from vaelab.distributions import DiagonalMixture, MixtureOfNormals, Normal

LOGITS = torch.tensor([0.3, -0.5, 0.9]).double()
LOC = torch.tensor([[-1.0, 0.5], [0.4, -0.8], [1.5, 1.2]]).double()
SCALE = torch.tensor([[0.6, 1.1], [0.9, 0.5], [0.7, 0.8]]).double()
MOMENTS = {
    "first": lambda z: z[..., 0],
    "last": lambda z: z[..., 1],
    "square": lambda z: z[..., 1] ** 2,
    "cross": lambda z: z[..., 0] * z[..., 1],
    "third": lambda z: z[..., 0] ** 2 * z[..., 1],
}


def leaves():
    return [parameter.clone().requires_grad_() for parameter in (LOGITS, LOC, SCALE)]


def moment(name, logits, loc, scale):
    """E_q[f(z)] in closed form."""
    mean, square = loc, loc**2 + scale**2
    of_components = {
        "first": mean[:, 0],
        "last": mean[:, 1],
        "square": square[:, 1],
        "cross": mean[:, 0] * mean[:, 1],
        "third": square[:, 0] * mean[:, 1],
    }
    return (logits.softmax(0) * of_components[name]).sum()


@pytest.mark.parametrize("name", MOMENTS)
def test_gradients_of_moments_are_exact(name):
    """E_q of the gradient that samples carry, integrated over a grid of z instead of samples."""
    nodes = torch.linspace(-8, 8, 101, dtype=torch.float64)
    z = torch.cartesian_prod(nodes, nodes)
    parameters = leaves()
    q = MixtureOfNormals(*parameters)
    mass = q.log_prob(z).exp().detach() * (nodes[1] - nodes[0]) ** 2
    found = torch.autograd.grad((mass * MOMENTS[name](q.attached(z))).sum(), parameters)
    expected = torch.autograd.grad(moment(name, *parameters), parameters, materialize_grads=True)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_samples_are_those_of_the_mixture_and_carry_its_gradient():
    parameters = leaves()
    z = MixtureOfNormals(*parameters).rsample((10_000,))
    square = MOMENTS["square"]
    by_batch = [torch.autograd.grad(square(part).mean(), parameters, retain_graph=True) for part in z.split(500)]
    expected = torch.autograd.grad(moment("square", *parameters), parameters)
    for found, exact in zip(map(torch.stack, zip(*by_batch, strict=True)), expected, strict=True):
        error = found.std(0) / math.sqrt(len(found))
        assert ((found.mean(0) - exact).abs() < 4.5 * error + 1e-9).all()


def test_one_component_is_the_plain_normal():
    loc, scale = (part[:1].clone().requires_grad_() for part in (LOC, SCALE))
    torch.manual_seed(1)
    z = MixtureOfNormals(torch.zeros(1).double(), loc, scale).rsample((7,))
    torch.manual_seed(1)
    plain = Normal(loc[0], scale[0]).rsample(torch.Size([7]))
    torch.testing.assert_close(z, plain)
    weights = torch.randn_like(z)
    found, expected = (torch.autograd.grad((weights * draws).sum(), [loc, scale]) for draws in (z, plain))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("deviations", [-5.5, 5.5])
def test_gradients_in_a_tail_are_exact_in_float32(deviations):
    def gradients(dtype):
        parameters = [parameter.to(dtype).requires_grad_() for parameter in (LOGITS, LOC, SCALE)]
        q = MixtureOfNormals(*parameters)
        z = LOC[2 if deviations > 0 else 0] + deviations * torch.tensor([0.7, 0.8])
        return torch.autograd.grad(q.attached(z.to(dtype)).sum(), parameters)

    for found, expected in zip(gradients(torch.float32), gradients(torch.float64), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_far_components_give_finite_gradients():
    parameters = [torch.tensor([0.0, -40.0]), torch.tensor([[-50.0] * 3, [50.0] * 3]), torch.full((2, 3), 1e-2)]
    parameters = [parameter.requires_grad_() for parameter in parameters]
    z = MixtureOfNormals(*parameters).rsample((1000,))
    assert (z < 0).all()  # the weight of the other component is e^-40
    z.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in parameters)


def test_stacked_models_draw_as_each_would_alone():
    def drawn(loc):
        return MixtureOfNormals(LOGITS.expand(4, 3), loc, SCALE.expand(4, 3, 2)).rsample(torch.Size([5]))

    loc = torch.stack([LOC, -LOC]).unsqueeze(1).repeat(1, 4, 1, 1)
    assert_stacked_models_draw_alone(drawn, loc)


def test_density_is_the_weighted_sum_of_its_components():
    q, z = MixtureOfNormals(LOGITS, LOC, SCALE), torch.randn(5, 2).double()
    parts = td.Independent(td.Normal(LOC, SCALE), 1).log_prob(z.unsqueeze(1)).exp()
    torch.testing.assert_close(q.log_prob(z).exp(), parts @ LOGITS.softmax(0))


def components(*batch):
    generator = torch.Generator().manual_seed(0)
    logits, loc, scale = (torch.randn(*batch, 7, *size, generator=generator).double() for size in ((), (3,), (3,)))
    return [parameter.requires_grad_() for parameter in (logits, loc, scale.exp())]


@pytest.mark.parametrize(
    ("batch", "shape"),
    [
        ((), (5, 4, 3)),
        ((), (3,)),
        ((4,), (5, 4, 3)),
        ((4,), (3,)),
        ((2, 4), (6, 2, 4, 3)),
        ((2, 1), (6, 2, 4, 3)),
        ((2, 1), (4, 3)),
    ],
)
def test_the_density_is_that_of_any_mixture(batch, shape):
    parameters, z = components(*batch), torch.randn(*shape, generator=torch.Generator().manual_seed(1)).double()
    z.requires_grad_()
    logits, loc, scale = parameters
    usual = td.MixtureSameFamily(td.Categorical(logits=logits), td.Independent(td.Normal(loc, scale), 1))
    both = (DiagonalMixture(*parameters), usual)
    densities = [p.log_prob(z) for p in both]
    torch.testing.assert_close(*densities)
    torch.testing.assert_close(*(p.expand((5, *batch)).log_prob(torch.ones(5, *batch, 3).double()) for p in both))
    torch.testing.assert_close(*(torch.autograd.grad(log_prob.sum(), [*parameters, z]) for log_prob in densities))


def test_the_density_keeps_its_digits_where_scales_are_small():
    loc, scale = torch.full((2, 40), 3.0), torch.full((2, 40), 1e-3)
    z = loc[0] + 1e-3 * torch.randn(40, generator=torch.Generator().manual_seed(0))
    exact = td.Normal(loc[0].double(), scale[0].double()).log_prob(z.double()).sum()
    found = DiagonalMixture(torch.zeros(2), loc, scale).log_prob(z)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=0)
