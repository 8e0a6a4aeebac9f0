"""Schedules of beta, limits of the KL, and the distances of the aggregate posterior from the prior."""

import math

import pytest
import torch
import torch.distributions as td

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.distributions import Normal
from vaelab.objectives import (
    ELBO,
    IWAE,
    Capacity,
    CyclicalWarmUp,
    DReG,
    FreeBits,
    InfoVAE,
    LinearWarmUp,
    Renyi,
    ReweightedWakeSleep,
    TotalCorrelation,
    WakeSleep,
    kl_per_dimension,
)
from vaelab.objectives.coupled import SCALES, log_aggregate, squared_mmd
from vaelab.objectives.elbo import Parts
from vaelab.priors import LearnedNormal, MixtureOfGaussians

STEP = torch.tensor(0)


def normal(loc, scale):
    return td.Independent(td.Normal(loc, scale), 1)


@pytest.fixture
def model():
    vae, _ = linear_gaussian(4, detune=0.3)
    torch.manual_seed(0)
    return vae, draw_data(vae, 6)


def terms(objective, model, step=0):
    torch.manual_seed(1)
    return objective(*model, torch.tensor(step))


@pytest.mark.parametrize("step", [0, 3, 4, 9])
def test_a_schedule_weighs_the_kl_and_no_metric(model, step):
    plain, scheduled = terms(ELBO(), model), terms(ELBO(beta=LinearWarmUp(4)), model, step)
    expected = min(1, step / 4) * plain.metrics["kl"] - plain.metrics["reconstruction"]
    torch.testing.assert_close(scheduled.loss, expected)
    torch.testing.assert_close(scheduled.metrics["elbo"], plain.metrics["elbo"])


def test_cycles_end_at_one():
    schedule = CyclicalWarmUp(steps=10, num_cycles=2, rising=0.4)
    values = [schedule(torch.tensor(step)).item() for step in range(22)]
    assert values == pytest.approx(2 * [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1] + [1, 1])


@pytest.mark.parametrize("group_size", [1, 3, 4])
def test_free_bits_limit_the_mean_kl_of_each_group(model, group_size):
    vae, x = model
    kl = kl_per_dimension(vae.encode(x), vae.latent_prior())
    means = [group.sum(-1).mean() for group in kl.split(group_size, -1)]
    limit = sorted(means)[0].item() + 0.01  # so that at least one group lies below
    found = terms(FreeBits(limit, group_size), model)
    expected = sum(max(mean.item(), limit) for mean in means)
    penalty = found.loss + found.metrics["reconstruction"]
    assert penalty.mean().item() == pytest.approx(expected)
    torch.testing.assert_close(terms(FreeBits(0.0, group_size), model).loss, terms(ELBO(), model).loss)


def test_a_group_below_its_free_bits_has_no_gradient(model):
    vae, _ = model
    vae.zero_grad()
    found = terms(FreeBits(1e6), model)
    (found.loss + found.metrics["reconstruction"]).mean().backward()
    assert all(p.grad is None or p.grad.abs().max() < 1e-8 for p in vae.encoder.parameters())


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (5, 1.5), (99, 3.0)])
def test_capacity_is_the_distance_of_each_kl(model, step, capacity):
    found = terms(Capacity(3.0, steps=10, gamma=7.0), model, step)
    expected = 7 * (found.metrics["kl"] - capacity).abs() - found.metrics["reconstruction"]
    torch.testing.assert_close(found.loss, expected)


def test_mmd_is_unbiased_and_finds_a_difference():
    torch.manual_seed(0)
    same = torch.vmap(squared_mmd)(*torch.randn(2, 500, 30, 3))
    assert abs(same.mean()) < 4 * same.std() / math.sqrt(500)
    assert same.min() < 0
    assert squared_mmd(torch.randn(300, 3) + 1, torch.randn(300, 3)) > 0.1
    assert squared_mmd(torch.randn(1, 3), torch.randn(1, 3)) == 0


def test_mmd_is_the_mean_of_kernels_written_out():
    torch.manual_seed(0)
    one, other = torch.randn(4, 2), torch.randn(4, 2)

    def kernel(a, b):
        return sum(2 * 2 * s / (2 * 2 * s + (a - b).square().sum().item()) for s in SCALES)

    pairs = [(i, j) for i in range(4) for j in range(4)]
    within = sum(kernel(z[i], z[j]) for z in (one, other) for i, j in pairs if i != j) / 12
    expected = within - 2 * sum(kernel(one[i], other[j]) for i, j in pairs) / 16
    assert squared_mmd(one, other).item() == pytest.approx(expected, rel=1e-5)


def test_several_samples_keep_mmd_unbiased():
    torch.manual_seed(0)
    p = td.Independent(Normal(torch.zeros(2), torch.ones(2)), 1)  # ours, because torch's cannot be drawn under vmap
    none, objective = torch.zeros(20), InfoVAE(1.0, 1.0, num_samples=5)
    z = 0.9 * torch.randn(400, 1, 20, 2) + (1 - 0.9**2) ** 0.5 * torch.randn(400, 5, 20, 2)  # so that q(z) = p(z)
    penalty = torch.vmap(lambda z: objective.penalty(Parts(p, p, z, none, none), STEP)[0], randomness="different")
    found = penalty(z)
    assert abs(found.mean()) < 4 * found.std() / math.sqrt(400)


def test_info_vae_without_mmd_is_the_elbo(model):
    torch.testing.assert_close(terms(InfoVAE(0.0, 1.0), model).loss, terms(ELBO(), model).loss)


def test_the_aggregate_is_exact_if_the_minibatch_is_the_training_set():
    torch.manual_seed(0)
    q = normal(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    z = q.sample()
    joint, marginals = log_aggregate(q, z, 5)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(5)), q)
    torch.testing.assert_close(joint, mixture.log_prob(z))
    each = td.MixtureSameFamily(td.Categorical(torch.ones(3, 5)), td.Normal(q.mean.T, q.stddev.T))
    torch.testing.assert_close(marginals, each.log_prob(z).sum(-1))


def test_the_weights_of_a_minibatch_are_unbiased():
    torch.manual_seed(0)
    everything = normal(torch.randn(12, 2), torch.full((12, 2), 0.8))
    z = everything.mean[:1] + 0.3
    exact = everything.log_prob(z).exp().mean()
    others = 1 + torch.rand(1500, 11).argsort(1)[:, :3]
    chosen = torch.cat([torch.zeros(1500, 1, dtype=torch.long), others], 1)  # minibatches with the example of z

    def weighed(loc):
        return log_aggregate(normal(loc, torch.full((4, 2), 0.8)), z.expand(4, 2), 12)[0][0].exp()

    found = torch.vmap(weighed)(everything.mean[chosen])
    assert abs(found.mean() - exact) < 4 * found.std() / math.sqrt(1500)


def test_total_correlation_of_independent_dimensions_is_measured_as_known():
    torch.manual_seed(0)
    means = torch.randn(100, 10)  # of a q(z) that is nearly N(0, 1.01 I), whose total correlation is 0
    q = normal(means, torch.full((100, 10), 0.1))
    joint, marginals = log_aggregate(q, q.sample(), 50_000)
    assert 12 < (joint - marginals).mean() < 15  # 13.5 by the stratified weights; peers' misplaced weights give 17.5


def test_three_weights_of_one_are_the_sampled_elbo(model):
    split, plain = terms(TotalCorrelation(1, 1, 1), model), terms(ELBO(closed_form=False), model)
    torch.testing.assert_close(split.loss, plain.loss)


def test_the_number_of_training_examples_counts(model):
    few, many = TotalCorrelation(), TotalCorrelation()
    few.num_train, many.num_train = 10, 10_000
    assert (terms(few, model).loss != terms(many, model).loss).all()


def test_a_posterior_that_does_not_factorise_is_refused(model):
    vae, _ = model
    for objective in (FreeBits(), TotalCorrelation()):
        assert objective.refusal(vae) is None
    vae.encoder.forward = lambda x: td.MultivariateNormal(torch.zeros(len(x), 4), torch.eye(4))
    for objective in (FreeBits(), TotalCorrelation()):
        assert "encoder=gaussian" in objective.refusal(vae)


def test_capacity_refuses_an_estimated_kl(model):
    vae, _ = model
    assert Capacity().refusal(vae) is None
    assert "closed_form=true" in Capacity(closed_form=False).refusal(vae)
    vae.prior = MixtureOfGaussians((4,), (1, 4, 5)).double()
    assert "type encoder=gaussian prior=standard_normal" in Capacity().refusal(vae)


def test_mmd_refuses_a_learnt_prior_whose_samples_carry_no_gradient(model):
    vae, _ = model
    assert InfoVAE().refusal(vae) is None
    vae.prior = LearnedNormal((4,), (1, 4, 5))
    assert InfoVAE().refusal(vae) is None
    vae.prior = MixtureOfGaussians((4,), (1, 4, 5))
    assert "type prior=normal" in InfoVAE().refusal(vae)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (LinearWarmUp, {"steps": 0}),
        (CyclicalWarmUp, {"rising": 0.0, "steps": 1}),
        (CyclicalWarmUp, {"num_cycles": 0, "steps": 1}),
        (FreeBits, {"free_nats": -1.0}),
        (FreeBits, {"group_size": 0}),
        (Capacity, {"gamma": -1.0}),
        (Capacity, {"steps": 0}),
        (IWAE, {"num_samples": 0}),
        (IWAE, {"num_groups": 0}),
        (DReG, {"num_samples": 0}),
        (Renyi, {"num_samples": 0}),
        (Renyi, {"alpha": math.nan}),
        (ReweightedWakeSleep, {"num_samples": 1}),
        (WakeSleep, {"num_samples": 0}),
        (InfoVAE, {"alpha": 1.5}),
        (InfoVAE, {"strength": 0.5}),
        (TotalCorrelation, {"beta": -1.0}),
    ],
)
def test_arguments_without_meaning_are_refused(make, arguments):
    with pytest.raises(ValueError, match=rf"objective\.(beta\.)?{next(iter(arguments))}"):
        make(**arguments)
