"""Choices of several groups together: they train, or one line says why they do not go together."""

import pytest
import torch

from tests.helpers.choices import SMALL, choices, combinations, completed
from tests.helpers.commands import composing
from tests.helpers.training import fit
from vaelab.runs.model import model_for


def trained(chosen, steps):
    """Train a small model with these choices, on small minibatches."""
    few = ["prior.num_pseudo_inputs=10"] if chosen.get("prior") == "vamp" else []  # a network sees each at every step
    line = (f"{group}={name}" for group, name in chosen.items())
    return fit(*line, *few, f"trainer.max_steps={steps}", "latent_dim=20", "batch_size=10")


def assert_finite(fitted):
    assert all(value.isfinite().all() for value in fitted.state.values() if torch.is_floating_point(value))
    assert all(abs(value) < float("inf") for _, metrics in fitted.recorder.told for value in metrics.values())


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), [(g, n) for g in combinations["GROUPS"][:-1] for n in choices(g)])
def test_the_size_of_a_model_is_known_before_it_takes_memory(group, name):
    cfg = composing(*SMALL, *completed(group, name))
    with torch.device("meta"):
        outline = model_for(cfg, (1, 8, 8)).state_dict()
    real = model_for(cfg, (1, 8, 8)).state_dict()
    assert {key: value.shape for key, value in outline.items()} == {key: value.shape for key, value in real.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_a_drawn_combination_trains(seed):
    assert_finite(trained(combinations["drawn"](seed), 5))


@pytest.mark.exhaustive
def test_each_pair_trains_or_is_refused_in_one_line():
    for pair, chosen in combinations["pairs"]():
        if reason := combinations["refusal"](chosen):
            assert "\n" not in reason, pair
            assert ": type " in reason or "so type " in reason, pair
        else:
            assert_finite(trained(chosen, 2))
