from functools import partial

import pytest
import torch
import torch.distributions as td
from torch import nn

from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.estimators import ImportanceSampling
from vaelab.evaluation import figures
from vaelab.evaluation.latent_usage import aggregate_of, latent_values
from vaelab.heads import Bernoulli, DiagonalGaussian, Head
from vaelab.networks import MLP
from vaelab.objectives import ELBO
from vaelab.priors import Prior, StandardNormal
from vaelab.vae import Conditional, make_shared_vae, make_vae

EVENT = (1, 4, 3)
NETWORK = partial(MLP, hidden_features=6)
ENCODER, DECODER = partial(Conditional, head=DiagonalGaussian), partial(Conditional, head=Bernoulli)


def new_vae(make=make_vae, decoder_network=NETWORK):
    return make(EVENT, 2, ENCODER, DECODER, StandardNormal, NETWORK, decoder_network)


@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_shapes_with_zero_one_and_two_leading_dimensions(batch):
    vae = new_vae()
    x = torch.rand(*batch, *EVENT)
    q = vae.encode(x)
    p = vae.decode(q.mean)
    assert (q.batch_shape, q.event_shape) == (batch, (2,))
    assert (p.batch_shape, p.event_shape) == (batch, EVENT)
    assert vae.reconstruct(x).shape == x.shape


def test_encoder_and_decoder_have_parameters_of_their_own():
    vae = new_vae()
    assert not {id(p) for p in vae.encoder.parameters()} & {id(p) for p in vae.decoder.parameters()}


def test_shared_model_sums_the_gradients_of_one_module():
    vae = new_vae(make_shared_vae)
    shared = vae.encoder.network.second
    assert shared is vae.decoder.network.second
    x, z = torch.rand(5, *EVENT), torch.randn(5, 2)
    terms = vae.encode(x).log_prob(z).sum(), vae.decode(z).log_prob(x.round()).sum()

    def gradient(loss):
        return torch.autograd.grad(loss, shared.layers[0].weight, retain_graph=True)[0]

    of_encoder, of_decoder = map(gradient, terms)
    torch.testing.assert_close(gradient(sum(terms)), of_encoder + of_decoder)
    assert of_encoder.abs().sum() > 0
    assert of_decoder.abs().sum() > 0


def test_shared_model_refuses_networks_that_end_differently():
    with pytest.raises(ValueError, match=r"found \(6,\) \(encoder\) and \(5,\)"):
        new_vae(make_shared_vae, decoder_network=partial(MLP, hidden_features=5))


def test_encoder_sees_pixels_scaled_to_one():
    vae = new_vae()
    levels = torch.randint(0, 256, (5, *EVENT)).float()
    expected = vae.encoder(levels / 255).mean
    vae.max_pixel = 255
    torch.testing.assert_close(vae.encode(levels).mean, expected)


def test_samples_have_the_mean_and_variance_of_the_evidence():
    vae, _ = linear_gaussian(2, scale=0.5)
    drawn = vae.sample(20_000).detach().flatten(1)
    w, b = vae.decoder.head.loc.linear.weight, vae.decoder.head.loc.linear.bias
    variance = w.square().sum(1) + 0.5**2
    assert ((drawn.mean(0) - b).abs() < 5 * (variance / 20_000).sqrt()).all()
    assert ((drawn.var(0) - variance).abs() < 5 * variance * (2 / 20_000) ** 0.5).all()


def test_only_training_lets_the_head_observe():
    class Watching(Bernoulli):
        seen = 0

        def observe(self, distribution, event):
            self.seen += 1

    watched = Conditional((2,), EVENT, NETWORK, Watching)
    for mode in (True, False):
        watched.train(mode).log_prob(torch.zeros(4, *EVENT), torch.randn(4, 2))
    assert watched.head.seen == 1


class Pseudo(Prior):
    """A prior that asks the encoder for one component, as VampPrior does."""

    def __init__(self, latent_shape, event_shape):
        super().__init__(latent_shape, event_shape)
        self.input = nn.Parameter(torch.rand(event_shape))
        self.calls = 0

    def forward(self, encode):
        self.calls += 1
        return encode(self.input)


def test_a_prior_may_use_the_encoder_and_never_owns_it():
    vae = make_vae(EVENT, 2, ENCODER, DECODER, Pseudo, NETWORK, NETWORK)
    assert [name for name, _ in vae.prior.named_parameters()] == ["input"]
    assert vae.latent_prior().event_shape == (2,)
    x = torch.rand(5, *EVENT).round()
    assert ELBO()(vae, x, torch.tensor(0)).loss.isfinite().all()
    before = vae.prior.calls
    with vae.fixed_prior():
        ImportanceSampling(num_samples=300)(vae, x)
    assert vae.prior.calls == before + 1


def flow(normal, dims):
    """Return a distribution without a mean and without a closed-form KL."""
    return td.TransformedDistribution(td.Independent(normal, dims), [td.transforms.SigmoidTransform()])


class Flowing(Head):
    pixels, measure = "unit", "density"

    def __init__(self, network):
        super().__init__(network)
        self.loc = network.output_layer()

    def forward(self, features):
        return flow(td.Normal(self.loc(features), 1.0), len(self.event_shape))


class FlowingPrior(StandardNormal):
    def forward(self, encode):
        return flow(td.Normal(self.loc, self.scale), 1)


def test_no_part_assumes_a_mean():
    parts = partial(Conditional, head=Flowing)
    vae = make_vae(EVENT, 2, parts, parts, FlowingPrior, NETWORK, NETWORK)
    x = torch.rand(30, *EVENT).clamp(0.01, 0.99)
    assert vae.reconstruct(x).shape == x.shape
    for figure in (figures.reconstructions(vae, x[:4]), figures.samples(vae), figures.manifold(vae, 3)):
        assert figure.axes
    assert ELBO()(vae, x, torch.tensor(0)).loss.isfinite().all()
    assert ImportanceSampling(num_samples=30)(vae, x).log_likelihood.isfinite().all()
    values = latent_values(vae, x, aggregate_of(vae, [x]))
    assert "posterior_mean" not in values
    assert values["log_aggregate"].isfinite().all()
