"""The contract of a head, for every encoder and decoder of `conf/`, behind each kind of network."""

import pytest
import torch
from torch.func import functional_call, stack_module_state

from tests.helpers.choices import (
    IMAGE,
    LATENT,
    SMALL,
    altered,
    assert_each_parameter_is_owned_once,
    assert_finite_gradients,
    assert_it_trains,
    choices,
    completed,
    conditional,
)
from tests.helpers.commands import composing
from tests.helpers.distributions import assert_ranks_are_uniform, assert_samples_have_its_moments, assert_total_is_one
from vaelab.distributions import draw
from vaelab.evaluation.predictive import rank_histogram
from vaelab.objectives import kl_divergence
from vaelab.pixels import MEASURES
from vaelab.runs.build import build

HEADS = [(group, name) for group in ("encoder", "decoder") for name in choices(group)]
each_head = pytest.mark.parametrize(("group", "name"), HEADS)
# a network's own contract has its layers; every pair of a head and a network would say it again
FAMILIES = ("mlp", "conv")
each_network = pytest.mark.parametrize(
    "network", [pytest.param(n, marks=[] if n in FAMILIES else pytest.mark.exhaustive) for n in choices("network")]
)
FEW = (2, 2, 3)  # pixels that no convolution sees


def made(group, name, network="mlp", event=None):
    """Make q(z|x) of an encoder or p(x|z) of a decoder."""
    if group == "encoder":
        return conditional(group, name, IMAGE, event or LATENT, network)
    return conditional(group, name, LATENT, event or IMAGE, network)


@each_network
@each_head
def test_shapes_with_any_leading_dimensions(group, name, network):
    model = made(group, name, network)
    for batch in ((), (2,), (3, 2)):
        p = model(torch.randn(*batch, *model.network.context_shape))
        assert (p.batch_shape, p.event_shape) == (batch, model.network.event_shape)
        draws = p.sample((4,))
        log_prob = p.log_prob(draws)
        assert draws.shape == (4, *batch, *p.event_shape)
        assert log_prob.shape == (4, *batch)
        assert log_prob.isfinite().all()
        assert p.support is not None
        assert p.support.check(draws).all()


@each_network
@each_head
def test_examples_do_not_depend_on_each_other(group, name, network):
    model = made(group, name, network).eval()
    context = torch.randn(3, *model.network.context_shape)
    event = model(context).sample()
    alone = torch.stack([model.log_prob(x, c) for x, c in zip(event, context, strict=True)])
    torch.testing.assert_close(model.log_prob(event, context), alone, rtol=1e-4, atol=1e-3)


@each_head
def test_a_single_element_sums_or_integrates_to_one(group, name):
    model = made(group, name, event=(1,) if group == "encoder" else (1, 1, 1)).double().eval()
    with torch.no_grad():
        assert_total_is_one(model(torch.randn(model.network.context_shape, dtype=torch.float64)))


@each_head
def test_samples_have_the_moments_that_it_says(group, name):
    model = made(group, name, event=None if group == "encoder" else FEW).double().eval()
    with torch.no_grad():
        assert_samples_have_its_moments(model(torch.randn(model.network.context_shape, dtype=torch.float64)))


@each_network
@each_head
def test_gradients_reach_every_parameter_and_numbers_are_finite(group, name, network):
    model = made(group, name, network)
    context = torch.randn(5, *model.network.context_shape)
    model.log_prob(model(context).sample(), context).mean().backward()
    assert_finite_gradients(model)
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert all(value.shape == () and value.isfinite() for value in model.head.monitors().values())


@each_head
def test_what_it_learnt_is_saved_and_loaded(group, name):
    model, other = made(group, name), altered(made(group, name))
    context = torch.randn(5, *model.network.context_shape)
    event = model(context).sample()
    model.log_prob(event, context)  # in training, so that a head may observe
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.eval().log_prob(event, context), other.eval().log_prob(event, context))


@each_head
def test_each_trains_and_owns_its_layers_once(group, name):
    assert_each_parameter_is_owned_once(made(group, name))
    assert_it_trains(*completed(group, name))


@pytest.mark.parametrize("name", choices("decoder"))
def test_pixels_that_it_drew_have_uniform_ranks(name):
    torch.manual_seed(0)
    model = made("decoder", name).eval()
    with torch.no_grad():
        p = model(3 * torch.randn(400, *LATENT))
        assert_ranks_are_uniform(rank_histogram(p, p.sample()))


@pytest.mark.parametrize("name", choices("decoder"))
def test_its_pixels_have_its_measure_and_lie_in_its_support(name):
    data, module = build(composing(*SMALL, f"decoder={name}"))
    head = module.vae.decoder.head
    assert MEASURES[head.pixels] == head.measure
    p, x = module.vae.decode(torch.randn(100, 3)), data.draw("train", torch.arange(100))
    assert p.support.is_discrete == (head.measure == "mass")
    assert p.support.check(x).all()
    assert p.log_prob(x).isfinite().all()


@pytest.mark.parametrize("name", choices("decoder"))
def test_stacked_models_have_the_pixels_that_each_has_alone(name):
    models, z = [made("decoder", name) for _ in range(2)], torch.randn(4, *LATENT)
    x = models[0](z).sample()
    parameters, buffers = stack_module_state([model.eval() for model in models])
    stacked = torch.vmap(lambda *state: functional_call(models[0], state, (z,)).log_prob(x))(parameters, buffers)
    torch.testing.assert_close(stacked, torch.stack([model(z).log_prob(x) for model in models]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", choices("decoder"))
def test_reconstructions_lie_among_the_pixels(name):
    data, module = build(composing(*SMALL, f"decoder={name}"))
    shown = module.vae.reconstruct(data.draw("train", torch.arange(10)))
    assert shown.shape == (10, *data.event_shape)
    assert ((shown >= 0) & (shown <= data.max_pixel)).all()


@pytest.mark.parametrize("size", [50, 200])
@pytest.mark.parametrize("name", choices("decoder"))
def test_extreme_outputs_are_finite_at_the_ends_of_the_support(name, size):
    data, module = build(composing(*SMALL, f"decoder={name}"))
    decoder = module.vae.decoder
    go_to_extremes(decoder.head, size)  # in all pairs of signs, as there are many pixels
    end = {"binary": 1, "unit": 1 - 2.0**-24, "levels": data.max_pixel}[decoder.head.pixels]
    x = torch.tensor([data.max_pixel - end, end]).view(2, 1, 1, 1).expand(2, *data.event_shape)
    log_prob = decoder.log_prob(x, torch.zeros(2, 3))
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert_finite_gradients(decoder.head)


@pytest.mark.parametrize("size", [50, 200])
@pytest.mark.parametrize("name", choices("encoder"))
def test_extreme_posteriors_have_finite_samples_and_a_finite_kl(name, size):
    vae = build(composing(*SMALL, *completed("encoder", name)))[1].vae
    torch.manual_seed(0)
    for _ in range(5):  # of draws of the signs
        vae.zero_grad()
        go_to_extremes(vae.encoder.head, size)
        q = vae.encode(torch.zeros(2, 1, 8, 8))
        z, log_q = draw(q, (3,))
        kl = kl_divergence(q, vae.latent_prior(), z, log_q)
        assert z.isfinite().all()
        assert kl.isfinite().all()
        (z.sum() + kl.sum()).backward()
        assert_finite_gradients(vae.encoder.head)


def go_to_extremes(head, size):
    """Make all outputs of the layers of a head plus or minus `size`, whatever the features are."""
    for layer in [layer for layer in head.modules() if hasattr(layer, "bias")]:
        layer.weight.data.zero_()
        layer.bias.data.copy_(size * torch.randn_like(layer.bias).sign())
