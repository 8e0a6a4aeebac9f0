"""Learnt priors: what they start as, and what they learn."""

import pytest
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.objectives import ELBO, ReweightedWakeSleep
from vaelab.priors import LearnedNormal, MixtureOfGaussians, VampPrior

STEP = torch.tensor(0)


def no_encoder(x: torch.Tensor) -> td.Distribution:
    raise AssertionError("this prior calls no encoder")


def test_the_learnt_normal_begins_as_the_standard_one():
    p = LearnedNormal((3,), (1, 2, 2))(no_encoder)
    assert torch.equal(p.mean, torch.zeros(3))
    torch.testing.assert_close(p.stddev, torch.ones(3), rtol=2e-3, atol=0)


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


@pytest.mark.parametrize("make", [LearnedNormal, MixtureOfGaussians, VampPrior])
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
    near = td.Normal(0.0, 1.001).log_prob(torch.zeros(()))
    torch.testing.assert_close(prior(no_encoder).log_prob(torch.tensor([5.0])), near + torch.tensor(0.75).log())


@pytest.mark.parametrize(("make", "name"), [(MixtureOfGaussians, "num_components"), (VampPrior, "num_pseudo_inputs")])
def test_a_mixture_of_nothing_is_refused(make, name):
    with pytest.raises(ValueError, match=rf"prior\.{name}"):
        make((1,), (1, 2, 2), **{name: 0})
