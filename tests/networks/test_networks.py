import math
from functools import partial

import numpy as np
import pytest
import torch

from vaelab.networks import MLP, Chain, ConvNet, Network, normal_init

LATENT, IMAGE = (3,), (1, 8, 8)


def test_one_tanh_layer_is_the_papers():
    mlp, x = MLP((1, 2, 3), LATENT, 5).double(), torch.randn(4, 1, 2, 3, dtype=torch.float64)
    layer = mlp.layers[0]
    expected = np.tanh(x.flatten(1).numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    np.testing.assert_allclose(mlp(x).detach().numpy(), expected, rtol=1e-12)
    assert mlp.features_shape == (5,)


@pytest.mark.parametrize(("activation", "kind"), [("SiLU", torch.nn.SiLU), (torch.nn.GELU, torch.nn.GELU)])
def test_activation_by_name_or_class(activation, kind):
    mlp = MLP((3,), LATENT, [4, 5], activation)
    assert [type(m) for m in mlp.layers[1::2]] == [kind, kind]


def test_chain_applies_one_after_the_other():
    first, second = MLP((3,), LATENT, 4), MLP((4,), LATENT, 5)
    chain, x = Chain(first, second), torch.randn(2, 3)
    torch.testing.assert_close(chain(x), second(first(x)))
    assert chain.features_shape == (5,)


@pytest.mark.parametrize(("network", "owners"), [(MLP, 2 * 8 * 8), (ConvNet, 2)])
def test_each_number_of_an_output_layer_has_own_weights(network, owners):
    net = network(LATENT, (2, 8, 8))
    layer, features = net.output_layer(numbers=3), net(torch.randn(4, *LATENT))
    weight = next(layer.parameters())
    (gradient,) = torch.autograd.grad(layer(features)[..., 1].sum(), [weight])
    assert (gradient != 0).flatten(1).any(1).sum() == owners == len(weight) / 3


def test_a_conv_net_sees_where_things_are():
    net = ConvNet((1, 28, 28), LATENT)
    image = torch.zeros(1, 28, 28)
    image[0, 3, 3] = 1
    assert not torch.allclose(net(image), net(image.roll(10, -1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvNet(LATENT, LATENT), "expects images of at least 8x8"),
        (lambda: ConvNet((1, 7, 8), LATENT), "expects images of at least 8x8"),
        (lambda: ConvNet(LATENT, IMAGE, []), "channels"),
        (lambda: MLP(LATENT, IMAGE, [4, 0]), "hidden_features"),
        (lambda: MLP(LATENT, IMAGE, 4, "tanhh"), "tanhh"),
    ],
)
def test_networks_refuse_what_they_cannot_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("network", [partial(MLP, hidden_features=[300, 300]), ConvNet])
def test_normal_init_draws_all_weights_and_biases(network):
    net: Network = network((1, 28, 28), LATENT)
    normal_init(net, torch.zeros(1, 1, 28, 28), std=0.01)
    draws = torch.cat([p.flatten() for p in net.parameters()])
    assert draws.std().item() == pytest.approx(0.01, rel=5 / math.sqrt(2 * len(draws)))
    assert abs(draws.mean().item()) < 5 * 0.01 / math.sqrt(len(draws))
    assert all(p.abs().max() < 0.1 for p in net.parameters())  # the biases too: by default they reach 0.06
