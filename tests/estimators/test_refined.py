"""Refined importance sampling against the linear-Gaussian closed form, quadrature and AIS."""

import math
from functools import partial

import pytest
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import correlate, coverage, draw_data, linear_gaussian
from tests.helpers.training import fit as train
from vaelab.errors import PointMassError
from vaelab.estimators import AnnealedImportanceSampling, ImportanceSampling, RefinedImportanceSampling
from vaelab.estimators.fitting import fit
from vaelab.estimators.hamiltonian import Hamiltonian
from vaelab.estimators.importance_weights import threshold
from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.networks import MLP
from vaelab.priors import StandardNormal
from vaelab.vae import VAE, Conditional


@pytest.fixture
def as_posterior(monkeypatch):
    """`as_posterior(vae, of)` replaces q(z|x) by `of(q)`."""

    def replace(vae, of):
        encode = vae.encode
        monkeypatch.setattr(vae, "encode", lambda x: of(encode(x)))

    return replace


@pytest.mark.parametrize("correlated", [False, True])
def test_many_steps_find_the_posterior_of_a_linear_model(correlated):
    vae, log_evidence = linear_gaussian(4, detune=0.3)
    if correlated:
        correlate(vae)
    x = draw_data(vae, 5)
    estimate = RefinedImportanceSampling(50, num_steps=120, rate=0.2, widening=1.0)(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence(x), rtol=0, atol=0.01)
    assert (estimate.effective_sample_size > 49.5).all()


@torch.no_grad()
def test_the_diagonal_fit_is_the_best_diagonal_gaussian():
    vae, _ = linear_gaussian(4)
    precision = correlate(vae)
    x = draw_data(vae, 3)
    mean = vae.encode(x).mean
    vae.encoder.head.loc.linear.bias += 0.3
    vae.encoder.head.scale.layer.linear.bias += 0.5
    start = vae.encode(x)
    found = fit(Hamiltonian(vae, x, 1, 10**6), start, 150, 20, 0.2).diagonal()

    def excess(q):
        """The KL from the posterior, above that of the best diagonal Gaussian."""
        off, ratio = q.mean - mean, q.variance * precision.diagonal()
        return (torch.einsum("bi,ij,bj->b", off, precision, off) + (ratio - 1 - ratio.log()).sum(-1)) / 2

    assert excess(start).min() > 0.5
    assert excess(found).max() < 0.02


def test_weights_are_unbiased_on_the_scale_of_the_evidence():
    vae, log_evidence = linear_gaussian(2, detune=0.6)
    x = draw_data(vae, 1).expand(4000, -1, -1, -1)
    found = RefinedImportanceSampling(1, num_steps=3, num_refining=1, rate=0.2)(vae, x).log_likelihood
    ratios = (found - log_evidence(x[:1])).exp()
    assert ratios.std() > 0.1
    assert abs(ratios.mean().item() - 1) < 5 * ratios.std().item() / math.sqrt(len(ratios))


@pytest.mark.parametrize("detune", [0.3, -1.5])
def test_errors_are_as_large_as_they_say_however_poor_the_encoder(detune):
    vae, log_evidence = linear_gaussian(5, detune=detune)
    covered, estimate = coverage(RefinedImportanceSampling(200), vae, log_evidence, examples=5, repeats=100)
    assert 0.86 < covered <= 1  # three standard deviations below 0.95
    assert (estimate.pareto_k < threshold(200)).double().mean() > 0.95


def nonlinear(latent_dim=2, event_shape=(1, 5, 5)):
    """A VAE with a Bernoulli decoder of large random weights, in float64."""
    mlp = partial(MLP, hidden_features=20)
    encoder = Conditional(event_shape, (latent_dim,), mlp, DiagonalGaussian)
    decoder = Conditional((latent_dim,), event_shape, mlp, Bernoulli)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return VAE(encoder, decoder, StandardNormal((latent_dim,), event_shape)).double()


@torch.no_grad()
def test_numerical_integration_over_the_plane_agrees():
    vae = nonlinear()
    x = draw_data(vae, 10)
    axis = torch.linspace(-6, 6, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_joint = vae.log_likelihood(x, grid.unsqueeze(1)) + vae.latent_prior().log_prob(grid).unsqueeze(1)
    exact = log_joint.logsumexp(0) + 2 * math.log(axis[1] - axis[0])
    refined, plain = (estimator(vae, x) for estimator in (RefinedImportanceSampling(2000), ImportanceSampling(2000)))
    error = refined.standard_error.square().sum().sqrt()
    assert abs((refined.log_likelihood - exact).sum()) < 4 * error
    assert refined.effective_sample_size.mean() > 3 * plain.effective_sample_size.mean()


@pytest.mark.slow
def test_it_agrees_with_ais_on_a_trained_model():
    module = train("latent_dim=5", "hidden_features=20", "trainer.max_epochs=15").module.eval()
    x = module.data.draw("test", torch.arange(10))
    ais = AnnealedImportanceSampling(num_temperatures=200, num_chains=8)(module.vae, x)
    refined = RefinedImportanceSampling(500)(module.vae, x)
    gap = (refined.log_likelihood - ais.log_likelihood).mean()
    error = torch.cat([refined.standard_error, ais.standard_error]).square().sum().sqrt() / len(x)
    assert -4 * error < gap < 4 * error + 2 * ais.bias.abs().mean()


@torch.no_grad()
def test_an_example_does_not_depend_on_the_others_in_its_batch():
    vae = nonlinear()
    x, others, found = draw_data(vae, 2), draw_data(vae, 3), []
    for batch in (torch.cat([x, others]), torch.cat([x, 1 - others])):
        torch.manual_seed(1)
        found.append(RefinedImportanceSampling(20)(vae, batch).log_likelihood[:2])
    torch.testing.assert_close(*found)


@torch.no_grad()
def test_the_proposal_is_as_much_wider_as_it_should_be():
    vae, _ = linear_gaussian(3)
    x, found = draw_data(vae, 2), []
    for widening in (1.0, 1.5):
        torch.manual_seed(1)
        found.append(RefinedImportanceSampling(widening=widening).proposal(vae, x))
    torch.testing.assert_close(found[1].covariance_matrix, 1.5**2 * found[0].covariance_matrix)
    torch.testing.assert_close(found[1].mean, found[0].mean)


@torch.no_grad()
def test_samples_of_the_proposal_have_its_density():
    proposal = RefinedImportanceSampling().proposal(nonlinear(3), draw_data(nonlinear(3), 4))
    z, log_q = proposal.rsample_and_log_prob((5000,))
    torch.testing.assert_close(log_q, proposal.log_prob(z))
    torch.testing.assert_close(z.mean(0), proposal.mean, rtol=0, atol=0.1)
    spread = torch.stack([sample.T.cov() for sample in z.unbind(1)])
    torch.testing.assert_close(spread, proposal.covariance_matrix, rtol=0.1, atol=0.05)


def test_more_dimensions_than_the_gradients_can_tell_stay_uncorrelated():
    vae, _ = linear_gaussian(8)
    correlate(vae)
    x = draw_data(vae, 2)
    for steps, correlated in ((4, False), (5, True)):
        covariance = RefinedImportanceSampling(num_steps=steps, num_refining=1).proposal(vae, x).covariance_matrix
        assert (covariance.triu(1).abs().max() > 0) == correlated


def test_a_posterior_without_closed_moments_gives_samples(as_posterior):
    vae, log_evidence = linear_gaussian(3, detune=0.2)
    x = draw_data(vae, 10)

    def without_moments(q):
        moved = td.TransformedDistribution(q, td.AffineTransform(0.0, 1.0))
        with pytest.raises(NotImplementedError):
            _ = moved.mean
        return moved

    as_posterior(vae, without_moments)
    estimate = RefinedImportanceSampling()(vae, x)
    error = estimate.standard_error.square().sum().sqrt() / len(x)
    assert abs((estimate.log_likelihood - log_evidence(x)).mean() - estimate.bias.mean()) < 4 * error
    assert error < 0.03


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lambda q: td.Independent(td.Bernoulli(logits=q.mean), 1), "Boolean"),
        (lambda q: td.Independent(td.Beta(q.stddev, q.stddev), 1), "Interval"),
    ],
)
def test_a_latent_that_is_not_real_is_refused(of, words, as_posterior):
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 2)
    as_posterior(vae, of)
    with pytest.raises(ValueError, match=f"real numbers, found {words}.*: type estimator=importance"):
        RefinedImportanceSampling()(vae, x)


def test_a_posterior_of_scale_0_is_refused():
    vae, _ = linear_gaussian(2)
    x = draw_data(vae, 3)
    vae.encoder.head.scale.layer.linear.bias.data.fill_(-math.inf)
    with pytest.raises(PointMassError, match="min_scale"):
        RefinedImportanceSampling()(vae, x)


def test_gradients_that_are_not_finite_are_left_out(monkeypatch):
    vae, _ = linear_gaussian(2, scale=1.0)
    x = draw_data(vae, 4)
    log_prob = vae.decoder.log_prob

    def with_a_limit(event, z):
        nothing = 0 * (0.5 - z[..., 0]).sqrt()  # with a gradient of NaN beyond the limit
        return torch.where(z[..., 0] < 0.5, log_prob(event, z) + nothing, -math.inf)

    monkeypatch.setattr(vae.decoder, "log_prob", with_a_limit)
    assert RefinedImportanceSampling()(vae, x).log_likelihood.isfinite().all()


@pytest.mark.parametrize(
    ("name", "value"), [("num_steps", 0), ("num_refining", 0), ("rate", 0), ("widening", math.nan)]
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"estimator.{name} must be .* found {value}"):
        RefinedImportanceSampling(**{name: value})


@torch.no_grad()
def test_a_refinement_that_fails_falls_back():
    torch.manual_seed(0)
    encoder = Conditional((1, 6, 6), (8,), partial(MLP, hidden_features=8), DiagonalGaussian)
    decoder = Conditional((8,), (1, 6, 6), partial(MLP, hidden_features=30, activation="relu"), DiagonalGaussian)
    vae = VAE(encoder, decoder, StandardNormal((8,), (1, 6, 6))).eval()
    for layer in (decoder.head.loc.linear, decoder.head.scale.layer.linear):
        layer.weight *= 10  # so that log p(x|z) is far from quadratic
    x = torch.rand(20, 1, 6, 6)
    gain = RefinedImportanceSampling()(vae, x).log_likelihood - ImportanceSampling()(vae, x).log_likelihood
    assert gain.mean() > -20  # without a way back, all weights of most examples are 0
