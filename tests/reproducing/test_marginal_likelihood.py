"""log p(x) by numerical integration, and the model that Monte Carlo EM trains."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.networks import MLP
from vaelab.priors import StandardNormal
from vaelab.reproducing.marginal_likelihood import integrated
from vaelab.vae import VAE, Conditional

SHAPE = (1, 2, 3)


def model(latent_dim: int) -> VAE:
    torch.manual_seed(0)
    encoder = Conditional(SHAPE, (latent_dim,), MLP, DiagonalGaussian)
    decoder = Conditional((latent_dim,), SHAPE, MLP, Bernoulli)
    with torch.no_grad():
        decoder.head.logits.linear.weight.mul_(20)
    return VAE(encoder, decoder, StandardNormal((latent_dim,), SHAPE)).double()


def test_the_integral_in_one_dimension_is_that_of_a_quadrature():
    vae, x = model(1), torch.bernoulli(torch.full((3, *SHAPE), 0.5, dtype=torch.float64))

    def integrand(z, one):
        return vae.decode(torch.tensor([z], dtype=torch.float64)).log_prob(one).exp().item() * norm.pdf(z)

    with torch.no_grad():
        expected = [np.log(quad(integrand, -8, 8, args=(one,), limit=200)[0]) for one in x]
    np.testing.assert_allclose(integrated(vae, x, 2**12), expected, atol=2e-3)


@pytest.mark.slow
def test_masses_of_all_images_sum_to_one_in_three_dimensions():
    bits = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6).view(-1, *SHAPE).double()
    assert integrated(model(3), bits, 2**10).exp().sum().item() == pytest.approx(1, abs=5e-3)


def test_a_narrow_posterior_is_found_among_few_points():
    vae = model(3)
    with torch.no_grad():
        vae.decoder.head.logits.linear.weight.mul_(30)
    x = vae.decode(torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()).sample()
    torch.testing.assert_close(integrated(vae, x, 2**8), integrated(vae, x, 2**12), atol=0.05, rtol=0)
