"""The written-out updates are those of PyTorch's optimisers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from vaelab.training.updates import UPDATES, hyperparameters

OPTIONS: dict[type[Optimizer], list[dict[str, Any]]] = {
    Adam: [{}, {"betas": (0.5, 0.9), "eps": 0.01}, {"amsgrad": True, "maximize": True}, {"weight_decay": 0.1}],
    AdamW: [{}, {"weight_decay": 0.3, "amsgrad": True}],
    Adagrad: [{}, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}, {"maximize": True}],
    RMSprop: [{}, {"centered": True}, {"momentum": 0.9, "weight_decay": 0.1}, {"centered": True, "momentum": 0.5}],
    SGD: [{}, {"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}],
}
CASES = [partial(kind, **options) for kind, all_options in OPTIONS.items() for options in all_options]


def parameter() -> Tensor:
    return torch.linspace(-1, 1, 7).requires_grad_()


def gradients() -> Tensor:
    return torch.randn(20, 7, generator=torch.Generator().manual_seed(0))


def by_update(optimizer: Optimizer, weight: Tensor, rates: list[float]) -> None:
    """Take the first step by the optimiser, which makes its state, and all others by the update."""
    (group,) = optimizer.param_groups
    update, state = UPDATES[type(optimizer)](hyperparameters(group)), optimizer.state[weight]
    for rate, g in zip(rates, gradients(), strict=True):
        if rate == rates[0]:
            group["lr"], weight.grad = rate, g
            optimizer.step()
            continue
        with torch.no_grad():
            step = state["step"].add_(1) if "step" in state else None
            assert set(update.states()) == {name for name, value in state.items() if value is not None} - {"step"}
            update(weight, g, state, update.factors(torch.tensor(rate, dtype=torch.float64), step))


def test_every_update_is_tested() -> None:
    assert set(OPTIONS) == set(UPDATES)


@pytest.mark.parametrize("make", CASES, ids=lambda make: f"{make.func.__name__} {make.keywords}")
def test_an_update_equals_the_step_of_its_optimiser(make: Callable[..., Optimizer]) -> None:
    rates = [0.1 / (1 + i) for i in range(20)]
    ours, theirs = parameter(), parameter()
    by_update(make([ours], lr=rates[0]), ours, rates)
    optimizer = make([theirs], lr=rates[0])
    for rate, g in zip(rates, gradients(), strict=True):
        optimizer.param_groups[0]["lr"], theirs.grad = rate, g
        optimizer.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
