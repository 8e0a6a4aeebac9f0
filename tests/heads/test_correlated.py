"""Correlated posteriors: their KL, and the bound that only they reach."""

import pytest
import torch
import torch.distributions as td

import vaelab.distributions as vd
from tests.helpers.linear_gaussian import Flat, correlate, draw_data, linear_gaussian
from vaelab.heads import FullGaussian, LowRankGaussian
from vaelab.objectives import ELBO, closed_form_kl
from vaelab.priors import StandardNormal

SIZE = 4


def full():
    generator = torch.Generator().manual_seed(0)
    loc, tril = torch.randn(3, SIZE, generator=generator), torch.randn(3, SIZE, SIZE, generator=generator).tril()
    tril.diagonal(dim1=-2, dim2=-1).abs_().add_(0.1)
    return vd.MultivariateNormal(loc.double(), scale_tril=tril.double())


def low_rank():
    generator = torch.Generator().manual_seed(0)
    loc, factor = torch.randn(3, SIZE, generator=generator), torch.randn(3, SIZE, 2, generator=generator)
    return vd.LowRankMultivariateNormal(loc.double(), factor.double(), torch.full((3, SIZE), 0.3).double())


@pytest.mark.parametrize("q", [full(), low_rank()], ids=["full", "low rank"])
def test_kl_to_independent_normals_is_that_of_multivariate_normals(q):
    loc, scale = torch.linspace(-1, 1, SIZE).double(), torch.linspace(0.5, 2, SIZE).double()
    p = td.Independent(td.Normal(loc, scale), 1)
    whole = td.MultivariateNormal(q.loc, q.covariance_matrix)
    expected = td.kl_divergence(whole, td.MultivariateNormal(loc, scale.square().diag()))
    torch.testing.assert_close(td.kl_divergence(q, p), expected)


def test_another_prior_has_no_closed_form():
    assert closed_form_kl(full(), td.Independent(td.Laplace(torch.zeros(SIZE), torch.ones(SIZE)), 1)) is None


@pytest.mark.parametrize("q", [full(), low_rank()], ids=["full", "low rank"])
def test_samples_have_the_covariance(q):
    torch.manual_seed(0)
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
        head.below[-1].weight.zero_()
        head.below[-1].bias.copy_(tril[*torch.tril_indices(3, 3, -1)])
    vae.encoder.head = head
    exact = ELBO(closed_form=False)(vae, x, torch.tensor(0)).metrics["elbo"]
    torch.testing.assert_close(exact, log_evidence(x), rtol=0, atol=1e-8)
    assert (diagonal["elbo"].mean() < log_evidence(x).mean() - 0.05).all()


@pytest.mark.parametrize("make", [FullGaussian, LowRankGaussian])
def test_an_image_as_event_is_refused(make):
    with pytest.raises(ValueError, match="a vector"):
        make(Flat((2,), (1, 2, 2)))


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match="rank"):
        LowRankGaussian(Flat((2,), (3,)), rank=0)


def test_the_prior_is_standard_normal_to_both():
    prior = StandardNormal((SIZE,), (1, 2, 2)).double()(lambda x: full())
    assert all(closed_form_kl(q, prior).shape == (3,) for q in (full(), low_rank()))
