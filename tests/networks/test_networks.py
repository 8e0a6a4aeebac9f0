import math
from functools import partial

import numpy as np
import pytest
import torch

from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.networks import (
    MLP,
    Chain,
    ConvNet,
    GatedConvNet,
    GatedMLP,
    Network,
    ResidualConvNet,
    glorot_init,
    normal_init,
)
from vaelab.networks.mlp import Residual
from vaelab.priors import StandardNormal
from vaelab.vae import VAE, Conditional

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


def test_norms_and_skips_stand_where_they_should():
    mlp, x = MLP((3,), LATENT, [4, 4], "relu", "layernorm", residual=True), torch.randn(5, 3)
    first, norm, _, block = mlp.layers
    h = torch.relu((first(x) - first(x).mean(-1, keepdim=True)) / (first(x).var(-1, False) + norm.eps).sqrt()[:, None])
    torch.testing.assert_close(mlp(x), h + torch.relu(block[1](block[0](h))))
    assert len(mlp.layers) == 4


def test_a_norm_may_be_made_by_a_callable():
    mlp = MLP((3,), LATENT, 4, normalization=partial(torch.nn.GroupNorm, 2))
    assert [type(m) for m in mlp.layers] == [torch.nn.Linear, torch.nn.GroupNorm, torch.nn.Tanh]


@torch.no_grad()
def test_a_gated_layer_has_the_formula_of_its_paper():
    dense, x = GatedMLP((3,), LATENT, 4), torch.randn(5, 3)
    (a, b), (bias_a, bias_b) = (p.chunk(2) for p in dense.layers[0].parameters())
    torch.testing.assert_close(dense(x), (x @ a.T + bias_a) * (x @ b.T + bias_b).sigmoid())
    conv, image = GatedConvNet(IMAGE, LATENT, 4), torch.randn(5, *IMAGE)
    value, gate = conv.encode[0](image).chunk(2, 1)
    torch.testing.assert_close(conv(image), (value * gate.sigmoid()).flatten(1))


@torch.no_grad()
def test_deep_gated_layers_keep_the_size_of_their_inputs():
    for net, x in (
        (GatedMLP((100,), LATENT, [100] * 10), torch.randn(100, 100)),
        (GatedConvNet((1, 32, 32), LATENT, [8, 16, 32, 32, 64]), torch.randn(20, 1, 32, 32)),
    ):
        assert 0.3 < net(x).std() / x.std() < 4


def test_residual_blocks_begin_as_the_identity_and_learn():
    net, x = ResidualConvNet(LATENT, (3, 9, 13), [4, 6], num_blocks=2), torch.randn(5, *LATENT)
    plain = ConvNet(LATENT, (3, 9, 13), [4, 6])
    blocks = [module for module in net.modules() if isinstance(module, Residual)]
    assert len(blocks) == 4
    convolutions = [net.encode[0], *(net.decode[i] for i in (1, 8))]
    for own, other in zip(convolutions, [m for m in plain.modules() if hasattr(m, "weight")], strict=True):
        other.load_state_dict(own.state_dict())
    torch.testing.assert_close(net(x), plain(x))
    net(x).sum().backward()
    assert all(block[-1].weight.grad.abs().sum() > 0 for block in blocks)


def test_batch_normalisation_is_refused_wherever_it_stands():
    def model(encoder=MLP, decoder=MLP):
        encoder = Conditional(IMAGE, LATENT, encoder, DiagonalGaussian)
        return VAE(encoder, Conditional(LATENT, IMAGE, decoder, Bernoulli), StandardNormal(LATENT, IMAGE))

    with pytest.raises(ValueError, match=r"found BatchNorm1d at encoder\.network\.layers\.1, .*LayerNorm"):
        model(partial(MLP, normalization=torch.nn.BatchNorm1d))
    with pytest.raises(ValueError, match=r"found LazyBatchNorm2d at decoder\.network\.encode\.1"):
        model(decoder=partial(ConvNet, activation=torch.nn.LazyBatchNorm2d))
    model(partial(MLP, normalization=partial(torch.nn.GroupNorm, 1)))


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
        (lambda: GatedConvNet((1, 7, 8), LATENT), "GatedConvNet expects images of at least 8x8"),
        (lambda: ResidualConvNet(IMAGE, LATENT, num_blocks=0), "num_blocks"),
        (lambda: MLP(LATENT, IMAGE, 4, "tanhh"), "tanhh"),
        (lambda: MLP(LATENT, IMAGE, 4, normalization="batchnorm1d"), "such as LayerNorm or RMSNorm, found 'batchnorm"),
    ],
)
def test_networks_refuse_what_they_cannot_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("network", [partial(MLP, hidden_features=[300, 300]), ConvNet, GatedConvNet, ResidualConvNet])
def test_normal_init_draws_all_weights_and_biases(network):
    net: Network = network((1, 28, 28), LATENT)
    normal_init(net, lambda: torch.zeros(1, 1, 28, 28), std=0.01)
    draws = torch.cat([p.flatten() for p in net.parameters()])
    assert draws.std().item() == pytest.approx(0.01, rel=5 / math.sqrt(2 * len(draws)))
    assert abs(draws.mean().item()) < 5 * 0.01 / math.sqrt(len(draws))
    assert all(p.abs().max() < 0.1 for p in net.parameters())  # the biases too: by default they reach 0.06


@torch.no_grad()
@pytest.mark.parametrize("network", [MLP, ConvNet])
def test_glorot_init_begins_a_decoder_at_the_mean_of_the_data(network):
    encoder = Conditional(IMAGE, LATENT, partial(MLP, hidden_features=300), DiagonalGaussian)
    vae = VAE(encoder, Conditional(LATENT, IMAGE, network, Bernoulli), StandardNormal(LATENT, IMAGE))
    x = torch.linspace(-0.2, 1.2, 64).clamp(0, 1).expand(7, -1).reshape(7, *IMAGE)  # below low and above high too
    glorot_init(vae, lambda: x, data_bias=True)
    weight, bias = vae.encoder.network.layers[0].parameters()
    largest = math.sqrt(6 / (64 + 300))
    assert 0.99 * largest < weight.max() <= largest
    assert weight.std().item() == pytest.approx(largest / math.sqrt(3), rel=0.02)
    assert not bias.any()
    vae.decoder.head.logits.get_parameter("linear.weight" if network is MLP else "conv.weight").zero_()
    mean = x[0].clamp(0.001, 0.999)
    expected = mean if network is MLP else mean.mean().expand(IMAGE)
    torch.testing.assert_close(vae.decode(torch.randn(2, *LATENT)).mean, expected.expand(2, *IMAGE))
    glorot_init(vae, lambda: x, data_bias=False)
    assert not any(bias.any() for name, bias in vae.named_parameters() if name.endswith("bias"))


def test_glorot_init_refuses_a_head_without_a_mean_to_begin_at():
    gaussian = Conditional(LATENT, IMAGE, MLP, DiagonalGaussian)
    vae = VAE(Conditional(IMAGE, LATENT, MLP, DiagonalGaussian), gaussian, StandardNormal(LATENT, IMAGE))
    with pytest.raises(ValueError, match=r"found DiagonalGaussian: type initialization\.data_bias=false"):
        glorot_init(vae, lambda: torch.zeros(1, *IMAGE), data_bias=True)
    with pytest.raises(ValueError, match=r"expected 0 < initialization\.low"):
        glorot_init(vae, lambda: torch.zeros(1, *IMAGE), data_bias=False, low=0)
