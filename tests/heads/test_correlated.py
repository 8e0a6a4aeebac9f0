"""Correlated posteriors: their KL, and the bound that only they reach."""

import pytest
import torch
import torch.distributions as td

import vaelab.distributions as vd
from tests.helpers.distributions import assert_stacked_models_draw_alone
from tests.helpers.linear_gaussian import Flat, correlate, draw_data, linear_gaussian
from vaelab.heads import FullGaussian, LowRankGaussian
from vaelab.objectives import ELBO, closed_form_kl

SIZE = 4


def full():
    generator = torch.Generator().manual_seed(0)
    loc, tril = torch.randn(3, SIZE, generator=generator), torch.randn(3, SIZE, SIZE, generator=generator).tril()
    tril.diagonal(dim1=-2, dim2=-1).abs_().add_(0.1)
    return vd.MultivariateNormal(loc.double(), scale_tril=tril.double())


def low_rank(factor, sigma):
    """A head whose W is `factor`, and whose sigmas are `sigma`."""
    head = LowRankGaussian(Flat((1, 4, 5), factor.shape[:1]), rank=factor.shape[1], min_scale=sigma).to(factor.dtype)
    with torch.no_grad():
        head.factor.linear.weight.zero_()
        head.factor.linear.bias.copy_(factor.flatten())
        head.scale.layer.linear.weight.zero_()
        head.scale.layer.linear.bias.fill_(-100.0)
    return head


def test_a_sample_and_its_density_fit_together():
    q = full()
    z, log_q = q.rsample_and_log_prob((5,))
    assert z.shape == (5, 3, SIZE)
    torch.testing.assert_close(log_q, q.log_prob(z))
    torch.manual_seed(0)
    drawn = q.rsample(torch.Size([5]))
    torch.manual_seed(0)
    noise = torch.randn(5, 3, SIZE, dtype=torch.float64)
    torch.testing.assert_close(drawn, q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1))


def test_the_density_of_a_sample_is_exact_where_solving_is_not():
    """In float32, L^-1 has elements of 1e10 here, which turn rounding errors of z into nats."""
    tril = (1e3 * torch.ones(6, 6)).tril(-1) + torch.eye(6)
    q = vd.MultivariateNormal(torch.ones(6), scale_tril=tril, validate_args=False)
    noise = torch.randn(20, 6)
    exact = td.Normal(0.0, 1.0).log_prob(noise).sum(-1)
    torch.testing.assert_close(q.at(noise)[1], exact)
    assert (q.log_prob(q.at(noise)[0]) - exact).abs().max() > 1


def test_kl_to_independent_normals_is_that_of_multivariate_normals():
    q = full()
    loc, scale = torch.linspace(-1, 1, SIZE).double(), torch.linspace(0.5, 2, SIZE).double()
    p = td.Independent(td.Normal(loc, scale), 1)
    whole = td.MultivariateNormal(q.loc, q.covariance_matrix)
    expected = td.kl_divergence(whole, td.MultivariateNormal(loc, scale.square().diag()))
    torch.testing.assert_close(td.kl_divergence(q, p), expected)


def test_other_priors_have_no_closed_form():
    assert closed_form_kl(full(), td.Independent(td.Normal(torch.zeros(3, SIZE), torch.ones(SIZE)), 2)) is None
    assert closed_form_kl(full(), td.Independent(td.Laplace(torch.zeros(SIZE), torch.ones(SIZE)), 1)) is None


def test_samples_have_the_covariance():
    q = full()
    z = q.rsample((40_000,))
    found = torch.stack([torch.cov(z[:, i].T) for i in range(3)])
    torch.testing.assert_close(found, q.covariance_matrix, rtol=0.05, atol=0.08)


def test_only_a_full_covariance_reaches_log_evidence_of_a_correlated_posterior():
    vae, log_evidence = linear_gaussian(3)
    covariance = torch.linalg.inv(correlate(vae))
    torch.manual_seed(0)
    x = draw_data(vae, 20)
    diagonal, loc = ELBO()(vae, x, torch.tensor(0)).metrics, vae.encoder.head.loc
    head = FullGaussian(Flat((1, 4, 5), (3,)), min_scale=0.0).double()
    tril = torch.linalg.cholesky(covariance)
    with torch.no_grad():
        head.loc = loc
        head.scale.layer.linear.weight.zero_()
        head.scale.layer.linear.bias.copy_(2 * tril.diagonal().log())
        head.below.linear.weight.zero_()
        head.below.linear.bias.copy_(tril.flatten())
    vae.encoder.head = head
    exact = ELBO(closed_form=False)(vae, x, torch.tensor(0)).metrics["elbo"]
    torch.testing.assert_close(exact, log_evidence(x), rtol=0, atol=1e-8)
    assert (diagonal["elbo"].mean() < log_evidence(x).mean() - 0.05).all()


def test_low_rank_has_its_covariance_and_digits_at_the_floor():
    factor = torch.randn(20, 2)
    factor[:, 1] = 2 * factor[:, 0] + 1e-4 * factor[:, 1]  # nearly parallel
    q = low_rank(factor, 1e-3)(torch.zeros(20))
    exact = low_rank(factor.double(), 1e-3)(torch.zeros(20).double())
    expected = factor.double() @ factor.double().T + 1e-6 * torch.eye(20).double()
    torch.testing.assert_close(exact.covariance_matrix, expected, rtol=1e-9, atol=1e-12)
    noise = torch.randn(100, 20).double()
    z = exact.loc + noise @ exact.scale_tril.T
    found = q.log_prob(q.loc + (noise @ exact.scale_tril.T).float())
    torch.testing.assert_close(found.double(), exact.log_prob(z), rtol=0, atol=0.05)


def test_stacked_models_draw_what_each_draws_alone():
    def draw(loc):
        return vd.MultivariateNormal(loc, scale_tril=torch.eye(SIZE)).rsample()

    assert_stacked_models_draw_alone(draw, torch.zeros(2, SIZE))


@pytest.mark.parametrize("make", [FullGaussian, LowRankGaussian])
def test_an_image_as_event_is_refused(make):
    with pytest.raises(ValueError, match="a vector"):
        make(Flat((2,), (1, 2, 2)))


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="rank"):
        LowRankGaussian(Flat((2,), (3,)), rank=0)
