"""The contract of an objective, for every objective of `conf/`, on a VAE whose log p(x) is known."""

import math

import pytest
import torch
import torch.distributions as td

from tests.helpers.choices import assert_finite_gradients, assert_it_trains, choices, part
from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.distributions import normal
from vaelab.metric import Metric
from vaelab.objectives import Objective

STEP = torch.tensor(0)
each_objective = pytest.mark.parametrize("name", choices("objective"))


@pytest.fixture
def without_noise(monkeypatch):
    """Have every normal draw be the mean, so that nothing but the examples differs from call to call."""
    monkeypatch.setattr(normal, "standard_normal", lambda shape, like: like.new_zeros(shape))
    for method in ("sample", "rsample"):
        monkeypatch.setattr(td.Normal, method, lambda self, shape=(): self.loc.expand(self._extended_shape(shape)))


@each_objective
def test_it_returns_the_metrics_that_it_declares_per_example(name):
    objective = part("objective", name)
    assert isinstance(objective, Objective)
    assert all(isinstance(metric, Metric) for metric in objective.metrics)
    vae, _ = linear_gaussian(2, detune=0.3)
    terms = objective(vae, draw_data(vae, 5), STEP)
    assert set(terms.metrics) == {metric.name for metric in objective.metrics}
    assert len(terms.metrics) == len(objective.metrics)
    for values in (terms.loss, *terms.metrics.values()):
        assert values.shape == (5,)
        assert values.isfinite().all()


@pytest.mark.parametrize("step", [0, 1, 10**6])
@each_objective
def test_gradients_are_finite_at_any_step(name, step):
    vae, _ = linear_gaussian(2, detune=0.3)
    part("objective", name)(vae, draw_data(vae, 5), torch.tensor(step)).loss.mean().backward()
    assert_finite_gradients(vae)


@pytest.mark.parametrize("detune", [0.0, 0.4])
@each_objective
def test_bounds_lie_below_log_evidence_or_meet_it(name, detune):
    vae, log_evidence = linear_gaussian(3, detune=detune)
    x = draw_data(vae, 500)
    with torch.no_grad():
        metrics = part("objective", name)(vae, x, STEP).metrics
    for bound in metrics.keys() & {"elbo", "bound"}:
        gap = metrics[bound] - log_evidence(x)
        error = 4 * gap.std() / math.sqrt(len(x)) + 1e-8
        assert gap.mean() < error
        if bound == "elbo" and detune == 0:  # q is the exact posterior
            assert gap.mean() > -error


@pytest.mark.usefixtures("without_noise")
@each_objective
def test_how_a_batch_is_cut_changes_no_loss(name):
    objective = part("objective", name)
    if objective.couples_batch:
        pytest.skip("it says that it couples the examples of a minibatch")
    vae, _ = linear_gaussian(2, detune=0.3)
    x = draw_data(vae, 1) + torch.randn(7, 1, 4, 5, dtype=torch.float64)
    whole, *parts = [objective(vae, batch, STEP) for batch in (x, x[:3], x[3:])]
    torch.testing.assert_close(torch.cat([terms.loss for terms in parts]), whole.loss)
    for metric, values in whole.metrics.items():
        torch.testing.assert_close(torch.cat([terms.metrics[metric] for terms in parts]), values)


@pytest.mark.usefixtures("without_noise")
@each_objective
def test_it_counts_nothing_itself(name):
    objective = part("objective", name)
    vae, _ = linear_gaussian(2, detune=0.3)
    x, before = draw_data(vae, 5) + 1, {key: value.clone() for key, value in objective.state_dict().items()}
    first, again = objective(vae, x, STEP), objective(vae, x, STEP)
    assert torch.equal(first.loss, again.loss)
    assert all(torch.equal(value, before[key]) for key, value in objective.state_dict().items())


@each_objective
def test_each_objective_trains(name):
    assert_it_trains(f"objective={name}")
