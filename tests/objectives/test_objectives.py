import math

import numpy as np
import pytest
import scipy.stats
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.objectives import ELBO, NormalWeightPrior, kl_divergence, kl_per_dimension

STEP = torch.tensor(0)


@pytest.mark.parametrize("latent_dim", [2, 10])
def test_sampled_elbo_with_the_exact_posterior_is_log_evidence(latent_dim):
    vae, log_evidence = linear_gaussian(latent_dim)
    x = draw_data(vae, 50)
    terms = ELBO(closed_form=False)(vae, x, STEP)
    torch.testing.assert_close(terms.metrics["elbo"], log_evidence(x), rtol=0, atol=1e-8)


def test_elbo_misses_log_evidence_by_the_kl_to_the_posterior():
    vae, log_evidence = linear_gaussian(3, detune=0.4)
    exact, _ = linear_gaussian(3)
    x = draw_data(vae, 20)
    expected = log_evidence(x) - td.kl_divergence(vae.encode(x), exact.encode(x))
    with torch.no_grad():
        found = torch.stack([ELBO(num_samples=500)(vae, x, STEP).metrics["elbo"] for _ in range(20)])
    error = found.std(0) / math.sqrt(20)
    assert ((found.mean(0) - expected).abs() < 5 * error).all()


STANDARD = td.Independent(td.Normal(torch.zeros(1), torch.ones(1)), 1)


@pytest.mark.parametrize(
    ("base", "known"),
    [
        (td.Normal(torch.tensor([0.7]), torch.tensor([0.4])), scipy.stats.norm(0.7, 0.4)),
        (td.StudentT(5.0, torch.zeros(1), torch.ones(1)), scipy.stats.t(5)),  # has no closed form
    ],
)
def test_kl_is_scipys_numerical_integral(base, known):
    q, integral = td.Independent(base, 1), known.expect(lambda z: known.logpdf(z) - scipy.stats.norm.logpdf(z))
    z = q.rsample((200_000,))
    error = (q.log_prob(z) - STANDARD.log_prob(z)).std().item() / math.sqrt(200_000)
    assert abs(kl_divergence(q, STANDARD, z, closed_form=False).item() - integral) < 5 * error
    exact = isinstance(base, td.Normal)
    assert abs(kl_divergence(q, STANDARD, z).item() - integral) < (1e-5 if exact else 5 * error)
    assert (kl_per_dimension(q, STANDARD) is not None) == exact


def test_kl_per_dimension_adds_up():
    vae, _ = linear_gaussian(4, detune=0.3)
    q = vae.encode(draw_data(vae, 6))
    per_dimension = kl_per_dimension(q, vae.latent_prior())
    assert per_dimension.shape == (6, 4)
    torch.testing.assert_close(per_dimension.sum(-1), td.kl_divergence(q, vae.latent_prior()))


class Bound(torch.nn.Module):
    def __init__(self, vae, closed_form):
        super().__init__()
        self.vae, self.objective = vae, ELBO(closed_form=closed_form, num_samples=2)

    def forward(self, x):
        return self.objective(self.vae, x, STEP).loss.mean()


@pytest.mark.parametrize("closed_form", [True, False])
def test_gradients_are_those_of_finite_differences(closed_form):
    vae, _ = linear_gaussian(2, event_shape=(1, 2, 2), detune=0.3)
    x, bound = draw_data(vae, 3), Bound(vae, closed_form)
    parameters = dict(bound.named_parameters())

    def loss(*values):
        torch.manual_seed(0)  # the same noise at every evaluation
        return torch.func.functional_call(bound, dict(zip(parameters, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()), eps=1e-6, atol=1e-6)


def test_beta_changes_the_loss_and_not_the_bound():
    vae, _ = linear_gaussian(2, detune=0.3)
    x = draw_data(vae, 8)
    torch.manual_seed(0)
    one = ELBO()(vae, x, STEP)
    torch.manual_seed(0)
    four = ELBO(beta=4)(vae, x, STEP)
    torch.testing.assert_close(one.metrics["elbo"], four.metrics["elbo"])
    torch.testing.assert_close(one.loss, -one.metrics["elbo"])
    torch.testing.assert_close(four.loss, -four.metrics["reconstruction"] + 4 * four.metrics["kl"])


def test_more_samples_have_less_noise():
    vae, log_evidence = linear_gaussian(2)
    x = draw_data(vae, 2000)
    one, many = [ELBO(num_samples=k)(vae, x, STEP).metrics["elbo"] - log_evidence(x) for k in (1, 16)]
    assert one.shape == many.shape == (2000,)
    assert (one.std() / many.std()).item() == pytest.approx(4, rel=0.15)


def test_weight_prior_is_the_gaussian_density_of_the_decoders_weights():
    vae, _ = linear_gaussian(2)
    flat = np.concatenate([p.detach().numpy().ravel() for p in vae.decoder.parameters()])
    constant = 0.5 * len(flat) * math.log(2 * math.pi * 0.7**2)
    expected = -scipy.stats.norm.logpdf(flat, 0, 0.7).sum() - constant
    assert NormalWeightPrior(scale=0.7)(vae).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (ELBO, {"num_samples": 0}),
        (ELBO, {"beta": -1.0}),
        (ELBO, {"beta": math.nan}),
        (NormalWeightPrior, {"scale": 0.0}),
    ],
)
def test_what_cannot_be_meant_is_refused(make, arguments):
    with pytest.raises(ValueError, match=rf"(objective|weight_prior)\.{next(iter(arguments))}"):
        make(**arguments)
