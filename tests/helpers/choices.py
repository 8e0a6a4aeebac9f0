"""The choices of a group of the configuration, and the parts that they make, for tests that run over all of them."""

import runpy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from hydra.utils import instantiate
from torch import nn

from tests.helpers.commands import ROOT, composing
from vaelab.runs.build import build
from vaelab.runs.model import part_without_network
from vaelab.vae import Conditional

LATENT, IMAGE = (3,), (2, 8, 9)
combinations = runpy.run_path(str(ROOT / "scripts" / "combinations.py"))
choices: Callable[[str], list[str]] = combinations["choices"]  # the names of the YAMLs in a group's folder
SMALL = ("data=digits", "hidden_features=8", "latent_dim=3")


def part(group: str, name: str, *overrides: str) -> Any:
    """Return what the node of a group makes: an object, or what makes one."""
    return instantiate(composing(*SMALL, f"{group}={name}", *overrides)[group])


def conditional(
    group: str, name: str, context_shape: Sequence[int], event_shape: Sequence[int], network: str = "mlp"
) -> Conditional:
    """Make an encoder or a decoder behind a network, for events of any shape, or of the next size that it allows."""
    make = instantiate(part_without_network(composing(*SMALL, f"{group}={name}")[group]))
    for more in range(20):
        with suppress(ValueError):
            return make(context_shape, (event_shape[0] + more, *event_shape[1:]), network=part("network", network))
    return make(context_shape, event_shape, network=part("network", network))


@cache
def completed(group: str, name: str) -> tuple[str, ...]:
    """Return what to type for a choice: more than the choice itself if it needs a partner, or another size of z."""
    partners = [f"{other}={choice}" for other, choice in combinations["companions"](group, name)]
    return (f"{group}={name}", *partners, *(("estimator=importance", "latent_dim=10") if partners else ()))


def assert_it_trains(*overrides: str) -> None:
    """Assert that a configuration makes a model with a finite loss per example and finite gradients."""
    data, module = build(composing(*SMALL, *overrides))
    terms = module.objective(module.vae, data.draw("train", torch.arange(4)), torch.tensor(0))
    assert terms.loss.shape == (4,)
    assert terms.loss.isfinite().all()
    terms.loss.mean().backward()
    assert_finite_gradients(module.vae)


def assert_finite_gradients(module: nn.Module) -> None:
    """Assert that some parameters have a gradient, and that every gradient is finite."""
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert gradients or not list(module.parameters())
    assert not [name for name, gradient in gradients.items() if not gradient.isfinite().all()]


def assert_each_parameter_is_owned_once(module: nn.Module) -> None:
    """Assert that no two names of the module lead to one parameter, which would be saved and counted twice."""
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert names == [name for name, _ in module.named_parameters()]


def altered(module: nn.Module) -> nn.Module:
    """Change all that a module saves, so that loading has something to do."""
    with torch.no_grad():
        for value in module.state_dict().values():
            value.copy_(torch.rand_like(value) if value.is_floating_point() else value + 1)
    return module
