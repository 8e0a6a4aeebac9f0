"""Flows as posteriors and priors, on a model whose posterior is correlated."""

import pytest
import torch
import torch.distributions as td

from tests.helpers.choices import SMALL
from tests.helpers.commands import composing
from tests.helpers.flows import bent, shear
from tests.helpers.linear_gaussian import Flat, correlate, draw_data, linear_gaussian
from tests.helpers.training import configured
from vaelab.errors import ConfigError
from vaelab.estimators import ImportanceSampling, RefinedImportanceSampling
from vaelab.evaluation.advice import on_latent
from vaelab.evaluation.latent_usage import aggregate_of, latent_summary, latent_values
from vaelab.heads import CouplingFlow, FlowHead, InverseAutoregressiveFlow, SplineFlow
from vaelab.objectives import ELBO, DReG, ReweightedWakeSleep, StickingTheLanding
from vaelab.priors import FlowPrior
from vaelab.runs.build import build
from vaelab.runs.model import check_parts
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step

STEP = torch.tensor(0)
FLOWS = [InverseAutoregressiveFlow, CouplingFlow, SplineFlow]


def with_exact_flow():
    """A linear Gaussian model with a correlated posterior, log p(x), and the ELBO of the best diagonal Gaussian."""
    vae, log_evidence = linear_gaussian(3)
    tril = torch.linalg.cholesky(torch.linalg.inv(correlate(vae)))
    torch.manual_seed(0)
    x = draw_data(vae, 20)
    diagonal = ELBO()(vae, x, STEP).metrics["elbo"].detach()
    head = InverseAutoregressiveFlow(Flat((1, 4, 5), (3,)), 1, 1, 6, min_scale=0.0).double()
    head.loc = vae.encoder.head.loc
    with torch.no_grad():
        head.scale.layer.linear.weight.zero_()
        head.scale.layer.linear.bias.copy_(2 * tril.diagonal().log())
    shear(head.layers[0], (tril / tril.diagonal().unsqueeze(1)).tril(-1))
    vae.encoder.head = head
    return vae, x, log_evidence(x), diagonal


def test_a_flow_reaches_log_evidence_where_a_diagonal_gaussian_does_not():
    vae, x, log_evidence, diagonal = with_exact_flow()
    torch.testing.assert_close(ELBO()(vae, x, STEP).metrics["elbo"], log_evidence, rtol=0, atol=1e-8)
    assert diagonal.mean() < log_evidence.mean() - 0.05


def test_importance_sampling_from_the_exact_flow_has_no_error():
    vae, x, log_evidence, _ = with_exact_flow()
    estimate = ImportanceSampling(num_samples=3)(vae, x)
    torch.testing.assert_close(estimate.log_likelihood, log_evidence, rtol=0, atol=1e-8)
    assert (estimate.standard_error < 1e-6).all()


@pytest.mark.parametrize("objective", [StickingTheLanding(), DReG(3)], ids=["stl", "dreg"])
def test_no_noise_reaches_a_flow_that_is_the_posterior(objective):
    vae, x, _, _ = with_exact_flow()
    objective(vae, x, STEP).loss.sum().backward()
    assert all(p.grad.abs().max() < 1e-8 for p in vae.encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("make", FLOWS)
def test_doubly_reparametrised_gradients_of_one_sample_are_sticking_ones(make):
    gradients = []
    for objective in (StickingTheLanding(), DReG(1)):
        vae, _ = linear_gaussian(3)
        torch.manual_seed(0)
        vae.encoder.head = make(Flat((1, 4, 5), (3,)), hidden_features=8, num_context=3).double()
        bent(vae.encoder.head.layers, 0.3)
        objective(vae, draw_data(vae, 5), STEP).loss.sum().backward()
        gradients.append([p.grad for p in vae.encoder.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("make", FLOWS)
def test_a_new_head_is_a_diagonal_gaussian(make):
    network = Flat((1, 4, 5), (3,))
    head, x = make(network), torch.randn(6, 20)
    q = head(x)
    normal, z = td.Independent(td.Normal(head.loc(x), head.scale(x)), 1), q.sample()
    torch.testing.assert_close(q.log_prob(z), normal.log_prob(z))


def test_stacked_models_train_as_each_alone():
    line = ("encoder=iaf", "prior=flow", "encoder.head.hidden_features=8", "prior.hidden_features=8")

    def made():
        steps = []
        for seed in (0, 1):
            data, module = build(configured(*line, f"seed={seed}"))
            bent(module.vae.encoder.head.layers, 0.1)
            steps.append(Step(module.vae, module.objective, data, module.optimizer(module.vae.parameters())))
        return steps

    torch.manual_seed(0)
    stacked = StackedStep(made())
    torch.manual_seed(0)
    alone = made()
    keys, indices = (("train", 0, 0, 0, 0), ("train", 1, 0, 0, 0)), torch.arange(20).reshape(2, 10)
    stacked(indices, 10, keys)
    for step, key, own in zip(alone, keys, indices, strict=True):
        step(own, 10, key)
    torch.testing.assert_close(stacked.sums, torch.stack([step.sums for step in alone]), rtol=1e-5, atol=1e-4)


def test_wake_sleep_trains_a_flow_by_densities_alone():
    vae, x, _, _ = with_exact_flow()
    bent(vae.encoder.head.layers, 0.1)
    ReweightedWakeSleep()(vae, x, STEP).loss.sum().backward()
    assert all(p.grad.isfinite().all() for p in vae.encoder.parameters())
    assert vae.encoder.head.layers[0].network[0].weight.grad.any()


def test_refined_sampling_takes_its_moments_from_samples():
    vae, x, log_evidence, _ = with_exact_flow()
    found = RefinedImportanceSampling(num_samples=200)(vae, x).log_likelihood
    torch.testing.assert_close(found, log_evidence, rtol=0, atol=0.1)


@torch.no_grad()
def test_the_use_of_the_latent_is_said_to_be_unknown():
    vae, x, _, _ = with_exact_flow()
    aggregate = aggregate_of(vae, [x])
    assert aggregate is None
    assert latent_summary(latent_values(vae, x, aggregate)) == {}
    assert "a flow has no mean" in on_latent({"rate": 3.0})[0]


def test_a_flow_prior_begins_as_the_standard_normal():
    p, z = FlowPrior((3,), (1, 2, 2))(lambda x: pytest.fail("calls the encoder")), 2 * torch.randn(9, 3)
    torch.testing.assert_close(p.log_prob(z), td.Independent(td.Normal(torch.zeros(3), 1.0), 1).log_prob(z))


def test_no_hidden_context_and_images_are_refused():
    with pytest.raises(ValueError, match="num_context"):
        FlowHead(Flat((2,), (3,)), num_context=0)
    with pytest.raises(ValueError, match="a vector"):
        SplineFlow(Flat((2,), (1, 2, 2)))


def test_vamp_refuses_a_flow_whose_densities_take_too_long():
    with pytest.raises(ConfigError, match="Flow takes too long: type prior=flow, or encoder=gaussian"):
        check_parts(composing(*SMALL, "encoder=iaf", "prior=vamp"))
