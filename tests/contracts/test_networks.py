"""The contract of a network, for every network of `conf/`."""

import pytest
import torch
from torch.func import functional_call, stack_module_state

from tests.helpers.choices import (
    LATENT,
    altered,
    assert_each_parameter_is_owned_once,
    assert_finite_gradients,
    assert_it_trains,
    choices,
    part,
)

IMAGES = [(1, 8, 8), (1, 28, 20), (3, 9, 13)]
each_network = pytest.mark.parametrize("name", choices("network"))
each_shape = pytest.mark.parametrize(
    ("context", "event"), [*((image, LATENT) for image in IMAGES), *((LATENT, image) for image in IMAGES)]
)


@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
@each_shape
@each_network
def test_output_layers_have_the_shapes_that_they_promise(name, context, event, batch):
    network = part("network", name)(context, event)
    features = network(torch.randn(*batch, *context))
    assert (network.context_shape, network.event_shape) == (context, event)
    assert features.shape == (*batch, *network.features_shape)
    assert network.output_layer()(features).shape == (*batch, *event)
    for numbers in (1, 4):
        assert network.output_layer(numbers=numbers)(features).shape == (*batch, *event, numbers)
    assert network.output_layer("vector", 5)(features).shape == (*batch, 5)
    if len(event) == 3:
        assert network.output_layer("pixel")(features).shape == (*batch, *event[1:])
        for numbers in (1, 4):
            assert network.output_layer("pixel", numbers)(features).shape == (*batch, *event[1:], numbers)
    else:
        with pytest.raises(ValueError, match="need an image"):
            network.output_layer("pixel")


@each_shape
@each_network
def test_examples_do_not_depend_on_each_other(name, context, event):
    network, x = part("network", name)(context, event).eval(), torch.randn(3, *context)
    torch.testing.assert_close(network(x), torch.stack([network(each) for each in x]), rtol=1e-4, atol=1e-5)


@each_shape
@each_network
def test_gradients_are_finite_and_reach_every_parameter(name, context, event):
    network = part("network", name)(context, event)
    network.output_layer()(network(torch.randn(3, *context))).square().sum().backward()
    assert_finite_gradients(network)
    assert not [key for key, parameter in network.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize(("context", "event"), [(IMAGES[2], LATENT), (LATENT, IMAGES[2])])
@each_network
def test_stacked_networks_give_what_each_gives_alone(name, context, event):
    networks = [part("network", name)(context, event).double() for _ in range(2)]
    tensors, _ = stack_module_state(networks)
    x = torch.randn(2, 3, *context, dtype=torch.float64)
    stacked = torch.vmap(lambda own, x: functional_call(networks[0], own, x))(tensors, x)
    torch.testing.assert_close(stacked, torch.stack([network(own) for network, own in zip(networks, x, strict=True)]))


@each_network
def test_its_output_layers_belong_to_who_asks(name):
    network = part("network", name)(LATENT, IMAGES[0])
    before = dict(network.named_parameters())
    first, second = network.output_layer(), network.output_layer()
    assert before.keys() == dict(network.named_parameters()).keys()
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert_each_parameter_is_owned_once(network)


@each_network
def test_what_it_learnt_is_saved_and_loaded(name):
    make, x = part("network", name), torch.randn(3, *LATENT)
    one, other = make(LATENT, IMAGES[0]).eval(), altered(make(LATENT, IMAGES[0])).eval()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


@pytest.mark.slow
@pytest.mark.parametrize("of", ["network", "network@encoder.network", "network@decoder.network"])
@each_network
def test_each_network_trains_in_either_place(name, of):
    assert_it_trains(f"{of}={name}")
