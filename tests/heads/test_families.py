"""Each head is the formula of its likelihood, applied to the outputs of its own layers."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from tests.helpers.choices import SMALL, choices
from tests.helpers.commands import composing
from vaelab.errors import ConfigError
from vaelab.heads import (
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretisedGaussian,
    DiscretisedLogistic,
    LogitNormal,
    MixtureOfLogistics,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from vaelab.heads.limits import Limited
from vaelab.networks import Network
from vaelab.runs.build import build

EVENT, LEVELS = (2, 2, 3), 17


def vector(event_shape=EVENT):
    """A network that gives vectors of 4 features."""
    return Network((1,), event_shape, (4,))


def outputs(layer, h, *shape):
    """Outputs of a linear layer for 7 contexts, in NumPy."""
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    return (h.numpy() @ weight.T + bias).reshape(7, *EVENT, *shape)


def made(make, *args):
    """A head in float64, features, unit pixels and levels."""
    head = make(vector(), *args).double()
    x = torch.rand(7, *EVENT, dtype=torch.float64)
    return head, torch.randn(7, 4, dtype=torch.float64), x, (x * LEVELS).floor()


def assert_is_sum(head, h, x, elements):
    """Assert that the head's log-probability of x is the sum of these over the elements of each event."""
    np.testing.assert_allclose(head(h).log_prob(x).detach(), elements.sum((1, 2, 3)), rtol=1e-10)


def limited(lower, upper, initial, output):
    share = (initial - lower) / (upper - lower)
    return lower + (upper - lower) * scipy.special.expit(output + scipy.special.logit(share))


def test_student_t_has_a_layer_of_degrees_of_freedom():
    head, h, x, _ = made(StudentT)
    scale = np.exp(outputs(head.scale.layer, h) / 2)
    df = limited(2.1, 1000, 10, outputs(head.df.layer, h))
    assert_is_sum(head, h, x, scipy.stats.t.logpdf(x, df, outputs(head.loc, h), scale))


def test_beta_has_two_layers_of_concentrations():
    head, h, x, _ = made(Beta)
    a, b = (limited(0.01, 1e5, 1, outputs(number.layer, h)) for number in (head.a, head.b))
    assert_is_sum(head, h, x, scipy.stats.beta.logpdf(x, a, b))


def test_continuous_bernoulli_is_the_bernoulli_with_its_constant():
    head, h, x, _ = made(ContinuousBernoulli)
    logits, x_ = outputs(head.logits, h), x.numpy()
    y = scipy.special.expit(logits)
    constant = 2 * np.arctanh(1 - 2 * y) / (1 - 2 * y)
    assert_is_sum(head, h, x, x_ * np.log(y) + (1 - x_) * np.log(1 - y) + np.log(constant))


def test_logit_normal_is_gaussian_in_the_logit():
    head, h, x, _ = made(LogitNormal)
    loc, scale = outputs(head.loc, h), np.exp(outputs(head.scale.layer, h) / 2)
    x_ = x.numpy()
    assert_is_sum(head, h, x, scipy.stats.norm.logpdf(scipy.special.logit(x_), loc, scale) - np.log(x_ * (1 - x_)))


def test_categorical_is_a_softmax_for_each_pixel():
    head, h, _, x = made(Categorical, LEVELS)
    log_masses = scipy.special.log_softmax(outputs(head.logits, h, LEVELS), -1)
    assert_is_sum(head, h, x, np.take_along_axis(log_masses, x.long().numpy()[..., None], -1)[..., 0])


def cell_masses(family, loc, scale, x):
    ends = [np.where(x == 0, -np.inf, x / LEVELS), np.where(x == LEVELS - 1, np.inf, (x + 1) / LEVELS)]
    return family.cdf(ends[1], loc, scale) - family.cdf(ends[0], loc, scale)


@pytest.mark.parametrize(
    ("make", "family"), [(DiscretisedGaussian, scipy.stats.norm), (DiscretisedLogistic, scipy.stats.logistic)]
)
def test_discretised_heads_are_masses_of_cells(make, family):
    head, h, _, x = made(make, LEVELS)
    loc, scale = outputs(head.head.loc, h), np.exp(outputs(head.head.scale.layer, h) / 2)
    assert_is_sum(head, h, x, np.log(cell_masses(family, loc, scale, x.numpy())))


def test_a_mixture_has_weights_for_each_pixel():
    head, h, _, x = made(MixtureOfLogistics, LEVELS, 3)
    loc = scipy.special.expit(outputs(head.loc, h, 3) + scipy.special.logit([1 / 6, 1 / 2, 5 / 6]))
    scale = np.exp(outputs(head.scale.layer, h, 3) / 2)
    logits = h.numpy() @ head.logits.linear.weight.detach().numpy().T + head.logits.linear.bias.detach().numpy()
    weights = scipy.special.softmax(logits.reshape(7, *EVENT[1:], 3), -1)
    masses = cell_masses(scipy.stats.logistic, loc, scale, x.numpy()[..., None]).prod(1)  # of all channels
    expected = np.log((weights * masses).sum(-1)).sum((1, 2))
    np.testing.assert_allclose(head(h).log_prob(x).detach(), expected, rtol=1e-8)


def test_components_of_a_mixture_begin_apart():
    head = MixtureOfLogistics(vector(), LEVELS, 5)
    for parameter in head.parameters():
        parameter.data.zero_()
    loc = head(torch.zeros(4)).components.pixels.loc
    torch.testing.assert_close(loc[0, 0, 0], torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9]))
    assert "offsets" not in head.state_dict()


def test_poisson_has_a_mean_up_to_the_highest_level():
    head, h, _, x = made(Poisson, LEVELS)
    assert_is_sum(head, h, x, scipy.stats.poisson.logpmf(x, 16 * scipy.special.expit(outputs(head.mean, h))))


@pytest.mark.parametrize("make", [Poisson, NegativeBinomial])
@pytest.mark.parametrize("num_levels", [2, 17, 256, 1000, 65536])
def test_no_mean_of_counts_rounds_above_the_highest_level(make, num_levels):
    head = make(vector(), num_levels)
    head.mean.linear.bias.data.fill_(200.0)
    mean = head(torch.zeros(1, 4)).mean
    assert mean.max() <= num_levels - 1
    torch.testing.assert_close(mean, torch.full((1, *EVENT), num_levels - 1.0))


def test_negative_binomial_has_a_mean_and_a_dispersion():
    head, h, _, x = made(NegativeBinomial, LEVELS)
    mean, r = 16 * scipy.special.expit(outputs(head.mean, h)), limited(0.01, 1e6, 10, outputs(head.dispersion.layer, h))
    assert_is_sum(head, h, x, scipy.stats.nbinom.logpmf(x, r, r / (r + mean)))


def test_limits_hold_keep_a_gradient_and_are_counted():
    limited = Limited(vector((4,)), 0.01, 1e5, 1.0)
    limited.layer.linear.weight.data.zero_()
    limited.layer.linear.bias.data.copy_(torch.tensor([-50.0, 0.0, 2.0, 50.0]))
    numbers = limited(torch.zeros(4))
    torch.testing.assert_close(numbers[[0, 1, 3]], torch.tensor([0.01, 1.0, 1e5]))
    numbers.sum().backward()
    assert (limited.layer.linear.bias.grad > 0).all()
    assert [limited.share_at_limit().item() for _ in range(2)] == [0.5, 0]  # counted anew
    limited.eval()(torch.zeros(4))
    assert limited.share_at_limit().item() == 0  # counted while training only


@pytest.mark.parametrize("name", choices("decoder"))
def test_a_head_of_levels_has_those_of_the_data(name):
    _, module = build(composing(*SMALL, f"decoder={name}"))
    head = module.vae.decoder.head
    assert head.pixels != "levels" or head.num_levels == 17


def test_the_number_of_levels_is_that_of_the_chosen_data():
    assert composing("decoder=poisson").decoder.head.num_levels == 256
    assert composing("decoder=poisson", "data=array", "data.num_levels=10").decoder.head.num_levels == 10


def test_another_number_of_levels_than_the_data_have_is_refused():
    with pytest.raises(ConfigError, match=r"Poisson models 256 levels, .* type decoder.head.num_levels=17"):
        build(composing(*SMALL, "decoder=poisson", "decoder.head.num_levels=256"))


@pytest.mark.parametrize(("make", "args"), [(Poisson, (1,)), (Categorical, (-3,)), (MixtureOfLogistics, (17, 0))])
def test_levels_and_components_that_cannot_be_meant_are_refused(make, args):
    with pytest.raises(ValueError, match="must be a whole number"):
        make(vector(), *args)
