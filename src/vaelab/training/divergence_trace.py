"""A step under observation: the first thing in it that is infinite or not a number."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributions import Distribution

from vaelab.objectives import Terms
from vaelab.training.step import Minibatch, Step
from vaelab.vae import VAE


@dataclass
class Broken:
    """What was not finite in a step, in the order of appearance, and for which examples the bound was not."""

    found: list[str] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def first(self) -> str:
        return self.found[0] if self.found else "a number"

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.examples[:5])) + (", ..." if len(self.examples) > 5 else "")
        where = f" for {len(self.examples)} of {self.size} examples (training images {shown})" if self.examples else ""
        return self.first + where

    def look(self, name: str, tensor: Tensor) -> None:
        """Takes note of the tensor if it is not finite."""
        if not tensor.isfinite().all():
            self.found.append(name)


def of_all_processes(broken: Broken, batch: list[int]) -> tuple[Broken, list[int]]:
    """What broke in the process that can name examples, or can say most, and the minibatch of all; the same in each."""
    everyones: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyones, (broken, batch))
    seen, shares = zip(*everyones, strict=True)
    first = max(seen, key=lambda one: (bool(one.examples), bool(one.found)))
    examples = [index for one in seen for index in one.examples]
    whole = [index for dealt in zip_longest(*shares) for index in dealt if index is not None]
    return Broken(first.found, examples, len(whole)), whole


def take_watching(step: Step, minibatch: Minibatch) -> Broken:
    """Takes the step, and returns what was not finite: pixels, outputs of modules, terms, gradients, parameters."""
    broken = Broken(size=len(minibatch.indices))
    with _watched_modules(step.vae, broken), _watched_bound(step, minibatch, broken):
        step(*minibatch)
    for name, parameter in step.vae.named_parameters():
        broken.look(f"the parameter {name} after the step", parameter)
        for key, tensor in step.optimizer.state[parameter].items():
            if isinstance(tensor, Tensor):
                broken.look(f"the optimizer's {key} of {name} after the step", tensor)
    return broken


@contextmanager
def _watched_modules(vae: nn.Module, broken: Broken) -> Iterator[None]:
    def look(name: str, module: nn.Module, _: Any, output: Any) -> None:
        for part, tensor in _tensors_of(output):
            broken.look(f"the {part} of {name} ({type(module).__name__})", tensor)

    handles = [m.register_forward_hook(partial(look, name)) for name, m in vae.named_modules() if name]
    for name, parameter in vae.named_parameters():
        if parameter.requires_grad:  # in the order of the backward pass
            handles.append(parameter.register_hook(partial(broken.look, f"the gradient of {name}")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _watched_bound(step: Step, minibatch: Minibatch, broken: Broken) -> Iterator[None]:
    objective = step.objective
    plain = getattr(objective, "_orig_mod", objective)  # as it was before torch.compile

    def watched(vae: VAE, x: Tensor, number: Tensor) -> Terms:
        broken.look("a pixel", x)
        terms = plain(vae, x, number)
        names, values = [*step.names, "loss"], step.values(terms)
        finite = torch.stack([value.isfinite() for value in values]).all(0)
        for i in (*range(1, len(names)), 0):  # the first is what the others add up to
            broken.look(f"the {names[i]}", values[i])
        broken.examples = minibatch.indices[~finite.to(minibatch.indices.device)].tolist()
        return terms

    step.objective = watched
    try:
        yield
    finally:
        step.objective = objective


def _tensors_of(output: Any) -> list[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        return [("output", output)]
    while hasattr(output, "base_dist"):
        output = output.base_dist
    held = vars(output).items() if isinstance(output, Distribution) else ()
    return [(name, value) for name, value in held if isinstance(value, Tensor) and not name.startswith("_")]
