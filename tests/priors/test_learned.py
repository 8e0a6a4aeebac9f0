"""Learnt priors: what they start as, and what they learn."""

from collections.abc import Sequence
from functools import partial

import pytest
import torch
import torch.distributions as td
from sklearn.mixture import GaussianMixture

from tests.helpers.choices import SMALL
from tests.helpers.commands import assert_same_weights, composing
from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.objectives import ELBO, ReweightedWakeSleep
from vaelab.priors import FlowPrior, LearnedNormal, MixtureOfGaussians, Prior, VampPrior, base
from vaelab.priors.base import Encode
from vaelab.runs.build import build

STEP = torch.tensor(0)


def no_encoder(x: torch.Tensor) -> td.Distribution:
    raise AssertionError("this prior calls no encoder")


def test_the_learnt_normal_begins_as_the_standard_one():
    p = LearnedNormal((3,), (1, 2, 2))(no_encoder)
    assert torch.equal(p.mean, torch.zeros(3))
    torch.testing.assert_close(p.stddev, torch.ones(3), rtol=1e-6, atol=0)


def test_vamp_is_the_mean_of_posteriors_of_its_inputs():
    vae, _ = linear_gaussian(3)
    prior = VampPrior((3,), (1, 4, 5), num_pseudo_inputs=7).double()
    z = torch.randn(6, 3, dtype=torch.float64)
    each = torch.stack([vae.encoder(u.sigmoid()).log_prob(z) for u in prior.logits])
    torch.testing.assert_close(prior(vae.encoder).log_prob(z), each.exp().mean(0).log())


def test_the_encoder_learns_through_vamp_and_does_not_belong_to_it():
    vae, _ = linear_gaussian(3)
    vae.prior = VampPrior((3,), (1, 4, 5), num_pseudo_inputs=7).double()
    vae.latent_prior().log_prob(torch.zeros(3, dtype=torch.float64)).backward()
    assert all(p.grad is not None for p in vae.encoder.head.loc.parameters())
    assert [name for name, _ in vae.prior.named_parameters()] == ["logits"]


@pytest.mark.parametrize("make", [LearnedNormal, MixtureOfGaussians, VampPrior, FlowPrior])
def test_a_learnt_prior_raises_the_bound(make):
    vae, _ = linear_gaussian(2)
    torch.manual_seed(0)
    x = vae.decode(2 + 0.5 * torch.randn(200, 2, dtype=torch.float64)).sample().detach()
    vae.prior = make((2,), (1, 4, 5)).double()
    optimizer = torch.optim.Adam(vae.prior.parameters(), lr=0.05)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ELBO()(vae, x, STEP).loss.mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_wake_sleep_refuses_a_prior_that_calls_the_encoder():
    vae, _ = linear_gaussian(2)
    assert ReweightedWakeSleep().refusal(vae) is None
    vae.prior = VampPrior((2,), (1, 4, 5), num_pseudo_inputs=3).double()
    assert "share parameters" in ReweightedWakeSleep().refusal(vae)


def test_mixture_components_are_weighed():
    prior = MixtureOfGaussians((1,), (1, 2, 2), num_components=2)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.25, 0.75]).log())
        prior.loc.copy_(torch.tensor([[-5.0], [5.0]]))
    near = td.Normal(0.0, 1.0).log_prob(torch.zeros(()))
    torch.testing.assert_close(prior(no_encoder).log_prob(torch.tensor([5.0])), near + torch.tensor(0.75).log())


@pytest.mark.parametrize(("make", "name"), [(MixtureOfGaussians, "num_components"), (VampPrior, "num_pseudo_inputs")])
def test_a_mixture_of_nothing_is_refused(make, name):
    with pytest.raises(ValueError, match=rf"prior\.{name}"):
        make((1,), (1, 2, 2), **{name: 0})


# fitted afterwards


def two_clusters(n: int = 400) -> torch.Tensor:
    """Samples of two Gaussians in the plane, the second correlated."""
    z = torch.randn(n, 2)
    z[n // 4 :] = z[n // 4 :] @ torch.tensor([[0.5, 0.4], [0.0, 0.2]]) + torch.tensor([6.0, -3.0])
    return z


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_a_fitted_mixture_is_the_one_of_scikit_learn(covariance):
    z = two_clusters()
    prior = MixtureOfGaussians((2,), (1, 2, 2), num_components=3, covariance=covariance)
    torch.manual_seed(1)
    theirs = GaussianMixture(3, covariance_type=covariance[:4], random_state=int(torch.randint(2**31, ())))
    torch.manual_seed(1)
    prior.fit(no_encoder, z)
    expected = torch.as_tensor(theirs.fit(z.double().numpy()).score_samples(z.double().numpy()))
    torch.testing.assert_close(prior(no_encoder).log_prob(z).double(), expected, rtol=0, atol=1e-4)


def test_a_fitted_normal_has_the_moments_of_the_samples():
    z, prior = two_clusters(), LearnedNormal((2,), (1, 2, 2))
    prior.fit(no_encoder, z)
    torch.testing.assert_close(prior(no_encoder).mean, z.mean(0))
    torch.testing.assert_close(prior(no_encoder).stddev, z.std(0, correction=0))


class Shifted(Prior):
    """A learnt shift of N(0, I), which has no way of its own to be fitted."""

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = torch.nn.Parameter(torch.zeros(*latent_shape))

    def forward(self, encode: Encode) -> td.Distribution:
        return td.Independent(td.Normal(self.loc, 1.0), 1)


def test_any_prior_is_fitted_by_maximum_likelihood(monkeypatch):
    monkeypatch.setattr(base, "STEPS", 150)
    monkeypatch.setattr(base, "RATE", 0.1)
    z, prior = two_clusters() / 3, Shifted((2,), (1, 2, 2))
    with torch.no_grad():
        prior.fit(no_encoder, z)
    torch.testing.assert_close(prior.loc, torch.nn.Parameter(z.mean(0)), rtol=0, atol=0.05)


def test_a_flow_is_fitted_from_the_moments_of_the_samples(monkeypatch):
    monkeypatch.setattr(base, "STEPS", 3)
    z, prior, normal = 20 + 40 * torch.randn(2000, 2), FlowPrior((2,), (1, 2, 2)), LearnedNormal((2,), (1, 2, 2))
    for each in (prior, normal):
        each.fit(no_encoder, z)
    assert prior(no_encoder).log_prob(z).mean() > normal(no_encoder).log_prob(z).mean() - 0.5


def test_a_fit_changes_no_weight_of_the_encoder(monkeypatch):
    monkeypatch.setattr(base, "STEPS", 3)
    vae, _ = linear_gaussian(3)
    before = vae.encoder.head.loc.linear.weight.clone()
    prior = VampPrior((3,), (1, 4, 5), num_pseudo_inputs=4).double()
    start = prior.logits.clone()
    prior.fit(vae.encoder, torch.randn(20, 3, dtype=torch.float64))
    assert torch.equal(vae.encoder.head.loc.linear.weight, before)
    assert all(parameter.grad is None for parameter in vae.encoder.parameters())
    assert not torch.equal(prior.logits, start)


# pseudo-inputs that begin at data


def test_vamp_begins_at_training_examples_with_noise():
    x = (torch.rand(300, 1, 4, 5) > 0.5).float()
    for noise in (0.0, 0.5):
        prior = VampPrior((3,), (1, 4, 5), num_pseudo_inputs=300, init="data", noise=noise)
        prior.initialize(lambda count: x[:count])
        around = (0.05 + 0.9 * x).logit()
        assert (prior.logits - around).std().item() == pytest.approx(noise, rel=0.05, abs=1e-6)
        assert (prior.logits - around).mean().item() == pytest.approx(0, abs=0.03)


def test_random_pseudo_inputs_need_no_data():
    VampPrior((3,), (1, 4, 5), num_pseudo_inputs=3).initialize(lambda count: pytest.fail("it asks for data"))


def test_a_run_gives_vamp_different_examples_scaled_to_one():
    data, module = build(composing(*SMALL, "decoder=categorical", "prior=vamp", "prior.init=data", "prior.noise=0"))
    inputs = (module.vae.prior.logits.sigmoid() - 0.05) / 0.9
    train = data.images["train"].float() / 16
    nearest = torch.cdist(inputs.flatten(1), train.flatten(1)).min(1)
    assert nearest.values.max() < 1e-4
    assert len(nearest.indices.unique()) > 490  # some digits are equal
    assert len(data.draw_some(len(train) + 1)) == len(train) + 1


@pytest.mark.slow
def test_a_continued_run_does_not_begin_at_data_again(run_fast):
    line = ("prior=vamp", "prior.init=data", "prior.num_pseudo_inputs=5")
    run_fast(*line, "name=once", "trainer.max_epochs=1")
    continued = run_fast(*line, "name=once", "trainer.max_epochs=2").path
    assert_same_weights(continued, run_fast(*line, "name=whole", "trainer.max_epochs=2").path)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (partial(MixtureOfGaussians, covariance="low"), "covariance"),
        (partial(VampPrior, init="zeros"), "init"),
        (partial(VampPrior, noise=-1), "noise"),
    ],
)
def test_wrong_settings_of_a_prior_are_refused(make, name):
    with pytest.raises(ValueError, match=rf"prior\.{name}"):
        make((1,), (1, 2, 2))
