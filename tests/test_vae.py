from functools import partial

import pytest
import torch
from torch import nn

from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.networks import MLP
from vaelab.priors import StandardNormal
from vaelab.vae import VAE, Conditional, make_shared_vae, make_vae

EVENT = (1, 4, 3)


def encoder(context_shape, event_shape, trunk=lambda shape: MLP(shape, 6)):
    return Conditional(context_shape, event_shape, trunk, DiagonalGaussian)


def decoder(context_shape, event_shape, trunk=lambda shape: MLP(shape, 6)):
    return Conditional(context_shape, event_shape, trunk, Bernoulli)


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_shapes_with_zero_one_and_two_leading_dimensions(batch):
    vae = make_vae(EVENT, 2, encoder, decoder, StandardNormal)
    x = torch.rand(*batch, *EVENT)
    q = vae.encode(x)
    p = vae.decode(q.mean)
    assert (q.batch_shape, q.event_shape) == (batch, (2,))
    assert (p.batch_shape, p.event_shape) == (batch, EVENT)
    assert vae.reconstruct(x).shape == x.shape
    assert vae.log_joint(x, q.mean).shape == batch


def test_encoder_and_decoder_have_parameters_of_their_own():
    vae = make_vae(EVENT, 2, encoder, decoder, StandardNormal)
    assert not {id(p) for p in vae.encoder.parameters()} & {id(p) for p in vae.decoder.parameters()}


def test_shared_model_holds_the_very_same_module_and_sums_its_gradients():
    trunk = partial(MLP, hidden_features=6)
    vae = make_shared_vae(EVENT, 2, partial(encoder, trunk=trunk), partial(decoder, trunk=trunk), StandardNormal)
    shared = vae.encoder.trunk.second
    assert shared is vae.decoder.trunk.second
    x = torch.rand(5, *EVENT)

    def gradient(loss):
        vae.zero_grad()
        loss.backward()
        return shared.layers[0].weight.grad.clone()

    z = torch.randn(5, 2)
    of_encoder = gradient(vae.encode(x).log_prob(z).sum())
    of_decoder = gradient(vae.decode(z).log_prob(x.round()).sum())
    both = gradient(vae.encode(x).log_prob(z).sum() + vae.decode(z).log_prob(x.round()).sum())
    torch.testing.assert_close(both, of_encoder + of_decoder)
    assert of_encoder.abs().sum() > 0
    assert of_decoder.abs().sum() > 0


def test_encoder_sees_pixels_scaled_to_one():
    vae = make_vae(EVENT, 2, encoder, decoder, StandardNormal)
    levels = torch.randint(0, 256, (5, *EVENT)).float()
    expected = vae.encoder(levels / 255).mean
    vae.max_pixel = 255
    torch.testing.assert_close(vae.encode(levels).mean, expected)


def test_log_joint_is_the_sum_of_prior_and_likelihood():
    vae, _ = linear_gaussian(3)
    x, z = torch.randn(4, 1, 4, 5).double(), torch.randn(4, 3).double()
    expected = vae.decode(z).log_prob(x) + torch.distributions.Normal(0, 1).log_prob(z).sum(-1)
    torch.testing.assert_close(vae.log_joint(x, z), expected)


def test_shared_model_refuses_trunks_that_end_differently():
    parts = (
        partial(encoder, trunk=partial(MLP, hidden_features=6)),
        partial(decoder, trunk=partial(MLP, hidden_features=5)),
    )
    with pytest.raises(ValueError, match="6 features"):
        make_shared_vae(EVENT, 2, *parts, StandardNormal)


def test_samples_have_the_mean_and_variance_of_the_evidence():
    vae, _ = linear_gaussian(2, scale=0.5)
    drawn = vae.sample(20_000).detach().flatten(1)
    w, b = vae.decoder.head.loc.weight, vae.decoder.head.loc.bias
    variance = w.square().sum(1) + 0.5**2
    assert ((drawn.mean(0) - b).abs() < 5 * (variance / 20_000).sqrt()).all()
    assert ((drawn.var(0) - variance).abs() < 5 * variance * (2 / 20_000) ** 0.5).all()


def test_only_training_lets_the_head_observe():
    class Watching(Bernoulli):
        seen = 0

        def observe(self, distribution, event):
            self.seen += 1

    watched = Conditional((2,), EVENT, lambda shape: MLP(shape, 3), Watching)
    watched.log_prob(torch.zeros(4, *EVENT), torch.randn(4, 2))
    watched.eval().log_prob(torch.zeros(4, *EVENT), torch.randn(4, 2))
    assert watched.head.seen == 1


def test_vae_is_plain_pytorch():
    vae = make_vae(EVENT, 2, encoder, decoder, StandardNormal)
    assert isinstance(vae, nn.Module)
    assert type(vae) is VAE
    copy = make_vae(EVENT, 2, encoder, decoder, StandardNormal)
    copy.load_state_dict(vae.state_dict())
    x = torch.rand(5, *EVENT)
    assert torch.equal(copy.reconstruct(x), vae.reconstruct(x))
