import math

import numpy as np
import pytest
import torch

from vaelab.networks import MLP, Chain, normal_init


def test_one_tanh_layer_is_the_papers():
    mlp, x = MLP((1, 2, 3), 5).double(), torch.randn(4, 1, 2, 3, dtype=torch.float64)
    layer = mlp.layers[0]
    expected = np.tanh(x.flatten(1).numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())
    np.testing.assert_allclose(mlp(x).detach().numpy(), expected, rtol=1e-12)
    assert mlp.out_features == 5


@pytest.mark.parametrize("context_shape", [(7,), (1, 2, 3)])
@pytest.mark.parametrize("batch", [(), (2,), (3, 2)])
def test_any_number_of_leading_dimensions(context_shape, batch):
    assert MLP(context_shape, [4, 6])(torch.randn(*batch, *context_shape)).shape == (*batch, 6)


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", torch.nn.ReLU), ("SiLU", torch.nn.SiLU), (torch.nn.GELU, torch.nn.GELU)]
)
def test_activation_by_name_or_class(activation, kind):
    mlp = MLP((3,), [4, 5], activation)
    assert [type(m) for m in mlp.layers[1::2]] == [kind, kind]


@pytest.mark.parametrize("hidden", [0, [], [4, 0], -1])
def test_refuses_widths_below_one(hidden):
    with pytest.raises(ValueError, match="hidden_features"):
        MLP((3,), hidden)


def test_refuses_an_unknown_activation():
    with pytest.raises(ValueError, match="tanhh"):
        MLP((3,), 4, "tanhh")


def test_chain_applies_one_after_the_other():
    first, second = MLP((3,), 4), MLP((4,), 5)
    chain, x = Chain(first, second), torch.randn(2, 3)
    torch.testing.assert_close(chain(x), second(first(x)))
    assert chain.out_features == 5


def test_normal_init_draws_all_weights_and_biases_with_its_standard_deviation():
    mlp = MLP((300,), [300, 300])
    normal_init(mlp, std=0.01)
    draws = torch.cat([p.flatten() for p in mlp.parameters()])
    assert draws.std().item() == pytest.approx(0.01, rel=5 / math.sqrt(2 * len(draws)))
    assert abs(draws.mean().item()) < 5 * 0.01 / math.sqrt(len(draws))
    assert all(p.abs().max() < 0.1 for p in mlp.parameters())  # the biases too: by default they reach 0.06
