"""Mixtures of heads, against sums of SciPy's densities."""

import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch

from vaelab.distributions import Stacked
from vaelab.heads import (
    Bernoulli,
    Beta,
    Categorical,
    DiagonalGaussian,
    FixedScale,
    FullGaussian,
    Laplace,
    Mixture,
    OptimalScale,
    PerPixelScale,
    PointMass,
    Poisson,
    RelaxedBernoulli,
)
from vaelab.networks import MLP, Network

EVENT = (2, 3, 2)  # two channels
CONTEXT = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).double()


def made(*components, event=EVENT, **options):
    """A mixture behind the context itself, in float64."""
    return Mixture(Network((5,), event, (5,)), components, **options).double()


def softmax(values):
    return (values - values.logsumexp(-1, keepdim=True)).exp().detach().numpy()


def test_pixels_choose_a_component_for_all_their_channels():
    gaussian, laplace = partial(DiagonalGaussian, scale=partial(FixedScale, value=0.3)), Laplace
    head, x = made(gaussian, laplace), torch.rand(4, *EVENT).double()
    one, other = head.heads
    normal = scipy.stats.norm.logpdf(x, one.loc(CONTEXT).detach(), 0.3).sum(1)
    scale = other.scale(CONTEXT).detach()
    double = scipy.stats.laplace.logpdf(x, other.loc(CONTEXT).detach(), scale).sum(1)
    weights = softmax(head.logits(CONTEXT))
    expected = np.log(weights[..., 0] * np.exp(normal) + weights[..., 1] * np.exp(double)).sum((1, 2))
    np.testing.assert_allclose(head(CONTEXT).log_prob(x).detach(), expected, rtol=1e-7)


def test_events_choose_one_component():
    head = made(Bernoulli, over="event", num_copies=3)
    x = (torch.rand(7, 4, *EVENT) < 0.5).double()
    masses = torch.stack([part(CONTEXT).log_prob(x).exp() for part in head.heads], -1).detach().numpy()
    expected = np.log((softmax(head.logits(CONTEXT)) * masses).sum(-1))
    np.testing.assert_allclose(head(CONTEXT).log_prob(x).detach(), expected, rtol=1e-10)


def test_zero_inflation_adds_mass_to_level_zero_only():
    levels = torch.arange(6).double()
    head = made(partial(PointMass, num_levels=6), partial(Poisson, num_levels=6), event=(1, 1, 1))
    p = head(CONTEXT[0])
    share = softmax(head.logits(CONTEXT[0]))[0, 0, 0]
    mean = head.heads[1](CONTEXT[0]).mean.item()
    expected = (1 - share) * scipy.stats.poisson.pmf(levels, mean) + share * (levels.numpy() == 0)
    np.testing.assert_allclose(p.log_prob(levels.view(-1, 1, 1, 1)).exp().detach(), expected, rtol=1e-10)
    p.log_prob(levels.view(-1, 1, 1, 1)).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


def test_density_outside_of_one_support_is_that_of_the_others():
    head = made(DiagonalGaussian, Beta, event=(1, 1, 1))
    p, x = head(CONTEXT[0]), torch.tensor([-0.5, 0.5, 1.5]).double().view(-1, 1, 1, 1)
    share = softmax(head.logits(CONTEXT[0]))[0, 0, 0]
    gaussian = math.log(share) + head.heads[0](CONTEXT[0]).log_prob(x)
    torch.testing.assert_close(p.log_prob(x)[[0, 2]], gaussian[[0, 2]])
    assert p.log_prob(x)[1] > gaussian[1]
    assert p.support.check(x).all()


def test_monitors_are_those_of_all_parts():
    head = made(partial(DiagonalGaussian, scale=partial(PerPixelScale, min_scale=0.1)), Beta)
    head(CONTEXT)
    assert set(head.monitors()) == {"scale_at_floor_0", "a_at_limit_1", "b_at_limit_1"}


@pytest.mark.parametrize(
    ("components", "options", "match"),
    [
        ([DiagonalGaussian, Bernoulli], {}, r"one kind of pixels.*DiagonalGaussian \(unit\), Bernoulli \(binary\)"),
        ([partial(Poisson, num_levels=6), partial(Poisson, num_levels=7)], {}, "one kind of pixels"),
        ([], {}, "found none"),
        ([partial(DiagonalGaussian, scale=OptimalScale)], {}, "OptimalScale"),
        ([Laplace], {"over": "pixels"}, "over must be event or pixel"),
        ([Laplace], {"num_copies": 0}, "num_copies"),
        ([partial(Mixture, components=[Laplace], over="event", num_copies=200)], {"num_copies": 10**9}, "at most 256"),
        ([Laplace], {"event": (3,)}, "an image"),
        ([RelaxedBernoulli], {"event": (3,), "over": "event"}, "one kind of pixels"),
        ([partial(PointMass, num_levels=6, level=6)], {}, "level must be below num_levels=6"),
    ],
)
def test_wrong_components_are_refused(components, options, match):
    with pytest.raises(ValueError, match=match):
        made(*components, **options)


def test_dependent_pixels_cannot_be_mixed_one_by_one():
    with pytest.raises(ValueError, match="over=event"):
        made(partial(Mixture, components=[Laplace]))(CONTEXT)


def test_vectors_may_be_mixed_as_events():
    network = MLP((5,), (3,), 4)
    p = Mixture(network, [FullGaussian, DiagonalGaussian], over="event")(network(torch.randn(6, 5)))
    assert p.log_prob(p.sample((2,))).shape == (2, 6)


def test_categories_and_counts_are_mixed():
    head = made(partial(Categorical, num_levels=6), partial(Poisson, num_levels=6), event=(1, 1, 1))
    p, levels = head(CONTEXT[0]), torch.arange(60).double().view(-1, 1, 1, 1)
    assert isinstance(p.components, Stacked)
    assert p.log_prob(levels).exp().sum().item() == pytest.approx(1)
    assert head.num_levels == 6
