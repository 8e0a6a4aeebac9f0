"""The contract of an estimator, for every estimator of `conf/`, on a VAE whose log p(x) is known."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate

from tests.helpers.choices import SMALL, choices
from tests.helpers.commands import composing
from tests.helpers.linear_gaussian import draw_data, linear_gaussian, two_layers
from vaelab.estimators import BY_NAME, Estimator, Several
from vaelab.runs.model import check_estimator

# arguments, by name, with which an estimate takes a moment
QUICK = {"num_temperatures": 60, "num_leapfrogs": 4, "num_simulated": 0, "num_burn_in": 40, "num_draws": 30}
NAMES = choices("estimator")
each_estimator = pytest.mark.parametrize("name", NAMES)


def made(name, **more):
    """Make an estimator that is quick, or the several that it stands for."""
    node = composing(*SMALL, f"estimator={name}").estimator
    for part in [node, *(value for value in node.values() if hasattr(value, "keys"))]:
        part.update({key: value for key, value in (QUICK | more).items() if key in part})
    estimator = instantiate(node)
    return list(estimator.estimators.values()) if isinstance(estimator, Several) else [estimator]


def estimates(name, vae, x, **more):
    """Return what each estimator says, of the same draws."""
    found = []
    for estimator in made(name, **more):
        torch.manual_seed(1)
        found.append(estimator(vae, x))
    return found


@pytest.mark.parametrize("name", BY_NAME)
def test_its_settings_are_the_defaults_of_its_class(name):
    assert instantiate(composing(*SMALL, f"estimator={name}").estimator) == BY_NAME[name]()


@each_estimator
def test_it_says_what_it_is_and_for_which_latents(name):
    small, large = (linear_gaussian(size, (1, 1, size))[0] for size in (2, 100))
    check_estimator(instantiate(composing(*SMALL, f"estimator={name}").estimator), small)
    for estimator in made(name):
        assert isinstance(estimator, Estimator)
        assert estimator.name
        assert estimator.label
        assert estimator.refusal(small) is None
        assert isinstance(estimator.refusal(large), str | None)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(partial(linear_gaussian, 2), id="one layer"),
        pytest.param(two_layers, id="two layers", marks=pytest.mark.slow),
    ],
)
@each_estimator
def test_it_comes_within_its_errors_of_log_evidence(name, model):
    vae, log_evidence = model(scale=1.0, detune=0.2)
    x = draw_data(vae, 8)
    for estimate in estimates(name, vae, x):
        for values in (estimate.log_likelihood, estimate.standard_error, estimate.bias, estimate.effective_sample_size):
            assert values.shape == (8,)
            assert values.isfinite().all()
        gap = (estimate.log_likelihood - log_evidence(x) - estimate.bias).mean()
        error = estimate.standard_error.square().sum().sqrt() / len(x)
        assert abs(gap) < 4 * error + 1e-6
        assert error < 0.1
        assert not any(values.requires_grad for values in estimate.known().values())


@pytest.mark.slow
@each_estimator
def test_a_budget_of_memory_changes_nothing(name):
    vae, _ = linear_gaussian(2, detune=0.2)
    x, few = draw_data(vae, 3), {"num_temperatures": 5, "num_burn_in": 3, "num_draws": 4}
    tight, wide = [estimates(name, vae, x, max_batch_elements=budget, **few) for budget in (3 * 20, 10**7)]
    for one, other in zip(tight, wide, strict=True):
        for value in ("log_likelihood", "standard_error", "bias", "effective_sample_size"):
            torch.testing.assert_close(getattr(one, value), getattr(other, value), rtol=1e-6, atol=1e-6)


@each_estimator
def test_no_example_is_refused(name):
    vae, _ = linear_gaussian(2)
    for estimator in made(name):
        with pytest.raises(ValueError, match="at least one example"):
            estimator(vae, draw_data(vae, 1)[:0])
