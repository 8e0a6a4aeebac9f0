import pytest
import torch
import torch.distributions as td

from tests.helpers.commands import composing
from tests.helpers.linear_gaussian import draw_data, two_layers
from vaelab.distributions import Ancestral, sample_and_log_prob
from vaelab.errors import ConfigError
from vaelab.estimators import ImportanceSampling, RefinedImportanceSampling
from vaelab.evaluation import figures
from vaelab.evaluation.latent_usage import aggregate_of, latent_values
from vaelab.objectives import ELBO, IWAE, DReG, ReweightedWakeSleep, StickingTheLanding, closed_form_kl
from vaelab.runs.build import build

STEP = torch.tensor(0)
WEIGHTED = [IWAE, StickingTheLanding, DReG, ReweightedWakeSleep]


@pytest.fixture(scope="module")
def exact():
    """A linear-Gaussian VAE whose q is the posterior, its log p(x), and some data."""
    vae, log_evidence = two_layers()
    torch.manual_seed(0)
    return vae, log_evidence, draw_data(vae, 20)


def made(*overrides):
    return build(composing("data=digits", "hidden_features=8", "latent_dim=3", "model=hierarchical", *overrides))[1].vae


@torch.no_grad()
def test_weights_have_no_variance_where_q_is_the_posterior(exact):
    vae, log_evidence, x = exact
    z, log_q = sample_and_log_prob(vae.encode(x), (3,))
    log_w = vae.decoder.log_prob(x, z) + vae.latent_prior().log_prob(z) - log_q
    torch.testing.assert_close(log_w, log_evidence(x).expand(3, -1))


@torch.no_grad()
def test_prior_has_the_density_and_the_samples_of_the_joint_gaussian(exact):
    vae, _, _ = exact
    p, conditional = vae.latent_prior(), vae.prior.below[0].head
    a_matrix, a = conditional.loc.linear.weight, conditional.loc.linear.bias
    variance = conditional.scale.layer.linear.bias.exp() + 1e-6
    covariance = torch.eye(4).double()
    covariance[:2, :2] = a_matrix @ a_matrix.T + variance.diag()
    covariance[:2, 2:], covariance[2:, :2] = a_matrix, a_matrix.T
    joint = td.MultivariateNormal(torch.cat([a, torch.zeros(2)]), covariance)
    z = torch.randn(3, 5, 4).double()
    torch.testing.assert_close(p.log_prob(z), joint.log_prob(z))
    draws, log_density = sample_and_log_prob(p, (20_000,))
    torch.testing.assert_close(log_density, joint.log_prob(draws))
    assert (draws.mean(0) - joint.mean).abs().max() < 0.1
    assert (draws.T.cov() - covariance).abs().max() < 0.2


@pytest.mark.parametrize("estimator", [ImportanceSampling(1000), RefinedImportanceSampling(1000)])
def test_importance_sampling_meets_log_evidence_with_another_q(estimator):
    vae, log_evidence = two_layers(scale=1.0, detune=0.2)
    torch.manual_seed(0)
    x = draw_data(vae, 20)
    estimate = estimator(vae, x)
    gap = (estimate.log_likelihood - log_evidence(x) - estimate.bias).mean()
    error = estimate.standard_error.square().sum().sqrt() / len(x)
    assert abs(gap) < 4 * error < 0.1


def test_any_leading_dimensions_and_any_number_of_layers():
    vae = made("model.upper_dims=[2,4]")
    assert vae.latent_dim == 9
    for batch in ((), (5,), (2, 5)):
        q = vae.encode(torch.rand(*batch, 1, 8, 8))
        assert (q.batch_shape, q.event_shape) == (batch, (9,))
        z, log_q = sample_and_log_prob(q, (3,))
        torch.testing.assert_close(q.log_prob(z), log_q)
        assert z.shape == (3, *batch, 9)
        assert vae.latent_prior().log_prob(z).shape == (3, *batch)
        assert vae.decode(z).batch_shape == (3, *batch)
    assert not q.sample().requires_grad
    assert q.rsample().requires_grad


def test_decoder_sees_the_first_layer_only():
    vae, z = made(), torch.randn(4, 13)
    other = torch.cat([z[:, :3], torch.randn(4, 10)], 1)
    torch.testing.assert_close(vae.decode(z).mean, vae.decode(other).mean)


@pytest.mark.parametrize("objective", WEIGHTED)
def test_theta_gets_the_gradient_of_log_evidence(objective, exact):
    vae, _, x = exact
    torch.manual_seed(0)
    vae.zero_grad()
    objective(1000)(vae, x, STEP).loss.mean().backward()
    w, b, conditional = (
        vae.decoder.head.loc.linear.weight,
        vae.decoder.head.loc.linear.bias,
        vae.prior.below[0].head.loc,
    )
    (
        a_matrix,
        a,
    ) = conditional.linear.weight, conditional.linear.bias
    variance = vae.prior.below[0].head.scale.layer.linear.bias.exp() + 1e-6
    covariance = w @ (a_matrix @ a_matrix.T + variance.diag()) @ w.T + 0.25 * torch.eye(4)
    log_evidence = td.MultivariateNormal(w @ a + b, covariance).log_prob(x.flatten(1)).mean()
    for parameter, gradient in zip((a_matrix, a, w), torch.autograd.grad(-log_evidence, (a_matrix, a, w)), strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=0.05, atol=0.05)


def test_phi_has_no_noise_in_its_gradient_at_the_posterior(exact):
    vae, _, x = exact

    def largest(objective):
        torch.manual_seed(0)
        vae.zero_grad()
        objective(vae, x, STEP).loss.mean().backward()
        return max(parameter.grad.abs().max() for parameter in vae.encoder.parameters())

    assert largest(StickingTheLanding()) < 1e-9
    assert largest(DReG(5)) < 1e-9
    assert largest(ELBO()) > 1e-3


def test_the_layers_of_q_are_no_function_of_theta(exact):
    vae, _, x = exact
    vae.zero_grad()
    q = vae.encode(x)
    q.log_prob(q.sample()).sum().backward()
    assert all(parameter.grad is not None for parameter in vae.encoder.parameters())
    assert all(parameter.grad is None for part in (vae.prior, vae.decoder) for parameter in part.parameters())


@torch.no_grad()
def test_no_mean_and_no_closed_form_are_claimed(exact):
    vae, _, x = exact
    q = vae.encode(x)
    with pytest.raises(NotImplementedError):
        _ = q.mean
    assert closed_form_kl(q, vae.latent_prior()) is None
    values = latent_values(vae, x, aggregate_of(vae, [x]))
    assert values.keys() == {"log_posterior", "log_aggregate", "log_prior"}
    mixture = q.log_prob(q.sample().unsqueeze(1))
    assert mixture.shape == (20, 20)
    for figure in (figures.reconstructions(vae, x[:4]), figures.samples(vae, 2, 2)):
        assert figure.axes


@torch.no_grad()
def test_log_prob_of_one_point_under_many_posteriors(exact):
    vae, _, x = exact
    q, z = vae.encode(x), torch.randn(4).double()
    alone = torch.stack([vae.encode(each).log_prob(z) for each in x])
    torch.testing.assert_close(q.log_prob(z), alone)


def test_a_layer_without_reparametrisation_carries_no_gradient():
    first = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.randn(2, 3), 1.0), 1))
    p = Ancestral(first, [lambda h: td.Independent(td.Normal(h, 1.0), 1)], (3, 3), reverse=True)
    assert not p.has_rsample
    assert p.sample((5,)).shape == (5, 6)
    with pytest.raises(ConfigError, match="samples carry a gradient"):
        p.rsample()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("prior=vamp", "expects a prior of its top layer alone, .* type prior=standard_normal"),
        ("model.upper_dims=[]", "model.upper_dims must be a whole number"),
        ("objective=free_bits", "FreeBits needs the KL of each latent dimension, .*model=vae"),
        ("objective=total_correlation", "TotalCorrelation needs .* to factorise: type model=vae"),
        ("estimator=hmc", "at most 5 dimensions, found latent_dim=13"),
        ("encoder=relaxed_bernoulli prior=bernoulli", "real numbers, found RelaxedBernoulli: type encoder=gaussian"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(overrides, message):
    with pytest.raises(ConfigError, match=message):
        made(*overrides.split())


def test_monitors_of_each_layer_are_reported():
    assert made("encoder=full").encoder.head.monitors().keys() == {"scale_at_floor_1", "scale_at_floor_2"}


def test_densities_of_flows_in_layers_are_slow_too():
    vae = made("encoder=iaf")
    assert aggregate_of(vae, [torch.rand(2, 1, 8, 8)]) is None


@pytest.mark.parametrize("overrides", ["prior=mixture", "prior=normal", "encoder=full", "network@model.network=gated"])
def test_it_trains_with_other_parts(overrides):
    vae = made(overrides)
    x = torch.rand(4, 1, 8, 8).round()
    loss = ELBO()(vae, x, STEP).loss
    loss.mean().backward()
    assert loss.isfinite().all()
    assert not [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
