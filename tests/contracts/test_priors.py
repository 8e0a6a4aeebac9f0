"""The contract of a prior, for every prior of `conf/`."""

import pytest
import torch

from tests.helpers.choices import (
    SMALL,
    altered,
    assert_each_parameter_is_owned_once,
    assert_finite_gradients,
    assert_it_trains,
    choices,
    completed,
)
from tests.helpers.commands import composing
from tests.helpers.distributions import assert_samples_have_its_moments, assert_total_is_one
from vaelab.runs.build import build

each_prior = pytest.mark.parametrize("name", choices("prior"))


def made(name, latent_dim=3):
    """Make a VAE with the prior, as a configuration does, with the latent that the prior needs if it needs one."""
    return build(composing(*SMALL, f"latent_dim={latent_dim}", *completed("prior", name)))[1].vae


@pytest.mark.parametrize("latent_dim", [1, 3])
@each_prior
def test_it_is_one_distribution_over_the_latent(name, latent_dim):
    vae = made(name, latent_dim)
    p = vae.latent_prior()
    assert (p.batch_shape, p.event_shape) == ((), vae.prior.latent_shape)
    for batch in ((), (2,), (3, 2)):
        z = p.sample(batch)
        assert z.shape == (*batch, *vae.prior.latent_shape)
        assert p.log_prob(z).shape == batch
        assert p.log_prob(z).isfinite().all()


@each_prior
def test_it_owns_no_parameter_of_the_encoder(name):
    vae = made(name)
    vae.latent_prior()
    assert not {id(m) for m in vae.prior.modules()} & {id(m) for m in vae.encoder.modules()}
    assert_each_parameter_is_owned_once(vae)


@torch.no_grad()
@each_prior
def test_density_integrates_to_one_and_samples_have_its_moments(name):
    assert_total_is_one(made(name, 1).double().eval().latent_prior())
    assert_samples_have_its_moments(made(name).double().eval().latent_prior(), 5_000)


@each_prior
def test_gradients_are_finite_and_reach_every_parameter(name):
    vae = made(name)
    z = torch.randn(5, vae.latent_dim, requires_grad=True)
    vae.latent_prior().log_prob(z).mean().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert_finite_gradients(vae.prior)
    assert not [key for key, parameter in vae.prior.named_parameters() if parameter.grad is None]


@each_prior
def test_extreme_parameters_have_finite_densities_and_gradients(name):
    vae = made(name)
    parameters = list(vae.prior.parameters())
    torch.manual_seed(0)
    for _ in range(5):  # of draws of the signs
        vae.zero_grad()
        for parameter in parameters:
            parameter.data.copy_(200 * torch.randn_like(parameter).sign())
        p = vae.latent_prior()
        log_prob = p.log_prob(torch.cat((torch.randn(5, vae.latent_dim), p.sample((5,)))))
        assert log_prob.isfinite().all()
        if parameters:
            log_prob.sum().backward()
            assert_finite_gradients(vae.prior)


@each_prior
def test_what_it_learnt_is_saved_and_loaded(name):
    one, other = made(name).eval(), made(name).eval()
    z = one.latent_prior().sample((5,))
    altered(other.prior)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.latent_prior().log_prob(z), other.latent_prior().log_prob(z))


@each_prior
def test_each_prior_trains(name):
    assert_it_trains(*completed("prior", name))
