"""Discrete latents, against exact sums over all of their values."""

import itertools
import math
from functools import partial

import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.distributions as td

from tests.helpers.distributions import assert_stacked_models_draw_alone
from tests.helpers.linear_gaussian import Flat
from vaelab import priors
from vaelab.distributions import bernoullis, categoricals
from vaelab.estimators import ImportanceSampling
from vaelab.heads import DiagonalGaussian, FixedScale, RelaxedBernoulli, RelaxedCategorical
from vaelab.objectives import ELBO, NormalWeightPrior, closed_form_kl, kl_per_dimension
from vaelab.vae import VAE, Conditional

STEP = torch.tensor(0)
EVENT = (1, 2, 3)
KINDS = {  # an encoder's head and a prior
    "bernoulli": (RelaxedBernoulli, priors.Bernoulli),
    "categorical": (partial(RelaxedCategorical, num_categories=3), partial(priors.Categorical, num_categories=3)),
}
VALUES = {  # all values of z, of 4 binary variables, or of 2 with 3 categories
    "bernoulli": torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).double(),
    "categorical": torch.stack([torch.cat(pair) for pair in itertools.product(torch.eye(3), repeat=2)]).double(),
}


def enumerable(kind, learned=False):
    """A VAE whose latent has few values, and a function that gives its log p(x), reconstruction and KL."""
    torch.manual_seed(3)
    values = VALUES[kind]
    latent = (values.shape[1],)
    head, prior = KINDS[kind]
    decoder = partial(DiagonalGaussian, scale=partial(FixedScale, value=1.0))
    encoder, decoder = Conditional(EVENT, latent, Flat, head), Conditional(latent, EVENT, Flat, decoder)
    vae = VAE(encoder, decoder, prior(latent, EVENT, learned=learned)).double()
    with torch.no_grad():
        vae.decoder.head.loc.linear.weight.mul_(4)
        if learned:
            vae.prior.logits.copy_(torch.randn_like(vae.prior.logits))
    # the weights of all values, and their sum, which normalises them
    log_prior = (values @ vae.prior.logits.detach().flatten()).log_softmax(0).unsqueeze(1)

    def exact(x):
        vae.eval()
        likelihood = vae.log_likelihood(x, values.unsqueeze(1))  # [values, batch]
        log_q = vae.encode(x).log_prob(values.unsqueeze(1))
        reconstruction = (log_q.exp() * likelihood).sum(0)
        kl = (log_q.exp() * (log_q - log_prior)).sum(0)
        spread = (log_q.exp() * (likelihood - reconstruction).square()).sum(0).sqrt()
        return (likelihood + log_prior).logsumexp(0), reconstruction, kl, spread

    return vae, exact


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_evaluation_is_of_the_discrete_model(kind, learned):
    vae, exact = enumerable(kind, learned)
    x = torch.randn(20, *EVENT).double()
    log_evidence, reconstruction, kl, spread = exact(x)
    q, p = vae.encode(x), vae.latent_prior()
    torch.testing.assert_close(closed_form_kl(q, p), kl)
    assert p.support.check(q.sample((9,))).all()
    found = ELBO(num_samples=1000)(vae, x, STEP).metrics
    torch.testing.assert_close(found["kl"], kl)
    assert ((found["reconstruction"] - reconstruction).abs() < 5 * spread / math.sqrt(1000)).all()
    assert (reconstruction - kl < log_evidence).all()
    estimate = ImportanceSampling(num_samples=2000)(vae, x)
    assert ((estimate.log_likelihood - log_evidence).abs() < 5 * estimate.standard_error + 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_relaxed_prior_draws_the_values_that_it_has_learnt(kind):
    vae, _ = enumerable(kind, learned=True)
    hard = vae.eval().latent_prior()
    vae.train().prior.temperature = 0.01
    given = vae.encoder.head.as_context(vae.latent_prior().rsample(torch.Size([5000]))).round()
    assert (given.mean(0) - hard.mean).abs().max() < 0.03
    assert (hard.mean - hard.mean.mean()).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_learnt_logits_are_weights_of_the_model(kind):
    vae, _ = enumerable(kind, learned=True)
    assert [name for name, _ in vae.prior.named_parameters()] == ["logits"]
    NormalWeightPrior()(vae).backward()
    torch.testing.assert_close(vae.prior.logits.grad, vae.prior.logits.detach())
    for training in (True, False):
        vae.zero_grad()
        vae.train(training).latent_prior().log_prob(VALUES[kind][0]).backward()
        assert vae.prior.logits.grad.abs().sum() > 0
    vae, _ = enumerable(kind)
    assert not list(vae.prior.parameters())
    assert not vae.prior.state_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_prior_has_the_shares_of_the_samples(kind):
    vae, _ = enumerable(kind, learned=True)
    z = VALUES[kind][torch.tensor([0, 0, 0, 1, 5])].repeat(2000, 1)
    vae.eval().prior.fit(vae.encoder, z)
    torch.testing.assert_close(vae.latent_prior().mean, z.mean(0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("make", [bernoullis, categoricals])
def test_probabilities_that_underflow_have_a_finite_kl(make):
    logits = torch.tensor([[200.0, 0.0]]).requires_grad_()
    kl = closed_form_kl(make(-logits, 0.5, relaxed=False), make(logits, 0.5, relaxed=False))
    assert kl.item() == pytest.approx(200)
    kl.backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoder_gets_nearly_discrete_latents_in_training(kind):
    vae, _ = enumerable(kind)
    vae.encoder.head.temperature = 0.01
    z = vae.train().encode(torch.randn(200, *EVENT).double()).rsample()
    given = vae.encoder.head.as_context(z)
    assert (((given - given.round()).abs() < 0.01).all(-1)).double().mean() > 0.8
    assert vae.eval().latent_prior().support.check(given.round()).double().mean() > 0.8
    assert torch.equal(vae.encoder.head.as_context(given), given)


def test_relaxed_bound_holds_and_the_naive_one_does_not():
    """One binary z, x half-way between both means: naive samples between 0 and 1 explain x too well."""
    decoder = partial(DiagonalGaussian, scale=partial(FixedScale, value=0.1))
    encoder = Conditional((1, 1, 1), (1,), Flat, partial(RelaxedBernoulli, temperature=1.0))
    vae = VAE(encoder, Conditional((1,), (1, 1, 1), Flat, decoder), priors.Bernoulli((1,), (1, 1, 1))).double()
    with torch.no_grad():
        for linear, weight in ((vae.decoder.head.loc.linear, 1.0), (vae.encoder.head.logits.linear, 0.0)):
            linear.weight.fill_(weight)
            linear.bias.zero_()
        x = torch.full((2000, 1, 1, 1), 0.5).double()
        relaxed = vae.encode(x)
        y = relaxed.sample()
        p = vae.latent_prior()
        of_relaxed = ELBO()(vae, x, STEP).metrics["elbo"]
        reconstruction = vae.log_likelihood(x, y)
        vae.eval()
        log_evidence = scipy.stats.norm.logpdf(0.5, 0, 0.1)  # of both values of z
        naive = reconstruction - closed_form_kl(vae.encode(x), vae.latent_prior())
        assert naive.mean() > log_evidence + 5
        torch.testing.assert_close(ELBO()(vae, x, STEP).metrics["elbo"], torch.full((2000,), log_evidence).double())

    def joint(y):
        log_p = p.log_prob(torch.tensor([y]).double()).item()
        return math.exp(log_p) * scipy.stats.norm.pdf(0.5, 1 / (1 + math.exp(-y)), 0.1)

    relaxed_evidence = math.log(scipy.integrate.quad(joint, -40, 40)[0])
    assert of_relaxed.mean() < relaxed_evidence


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_relaxations_are_pytorchs(temperature):
    logits = torch.randn(5, 6).double()
    q = bernoullis(logits, temperature, relaxed=True)
    known = td.Independent(
        td.relaxed_bernoulli.LogitRelaxedBernoulli(torch.tensor(temperature).double(), logits=logits), 1
    )
    y = q.sample((7,))
    torch.testing.assert_close(q.log_prob(y), known.log_prob(y))
    q = categoricals(logits.view(5, 2, 3), temperature, relaxed=True)
    y = q.sample((4000,))
    assert q.log_prob(y).isfinite().all()
    grouped = y.unflatten(-1, (2, 3))
    torch.testing.assert_close(grouped.logsumexp(-1), torch.zeros(4000, 5, 2).double())
    chosen = torch.nn.functional.one_hot(grouped.argmax(-1), 3).double().mean(0)  # the largest one has the softmax
    torch.testing.assert_close(chosen, logits.view(5, 2, 3).softmax(-1), rtol=0, atol=0.04)


def test_a_relaxed_categorical_integrates_to_one():
    q = categoricals(torch.tensor([[0.4, -0.7]]).double(), 0.5, relaxed=True)

    def density(t):  # of t = y_1 - y_2, which has the Jacobian 1 with respect to (y_1, log sum exp y)
        y = torch.tensor([t, 0.0]).double().log_softmax(-1)
        return q.log_prob(y).exp().item()

    assert scipy.integrate.quad(density, -60, 60, points=[0])[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("make", [bernoullis, categoricals])
def test_stacked_models_draw_as_each_would_alone(make):
    def drawn(logits):
        return make(logits, 0.5, relaxed=True).rsample(torch.Size([5]))

    assert_stacked_models_draw_alone(drawn, torch.randn(2, 4, 3, 2))


def test_only_bernoullis_have_a_kl_of_each_dimension():
    one, other = (bernoullis(torch.randn(5, 3), 0.5, relaxed=False) for _ in range(2))
    assert kl_per_dimension(one, other).shape == (5, 3)
    one, other = (categoricals(torch.randn(5, 2, 3), 0.5, relaxed=False) for _ in range(2))
    assert kl_per_dimension(one, other) is None


@pytest.mark.parametrize("relaxed", [False, True])
def test_logits_that_are_no_numbers_give_such_densities(relaxed):
    q = categoricals(torch.full((5, 2, 3), torch.nan), 0.5, relaxed)
    assert q.log_prob(torch.zeros(5, 6)).isnan().all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (partial(RelaxedCategorical, num_categories=4), "latent_dim must be a multiple of num_categories=4, found 6"),
        (partial(RelaxedCategorical, num_categories=1), "num_categories must be a whole number of at least 2"),
        (partial(RelaxedBernoulli, temperature=0.0), "temperature must be a number above 0"),
    ],
)
def test_wrong_arguments_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make(Flat((2,), (6,)))
