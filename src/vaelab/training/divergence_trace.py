"""A traced optimiser step, which finds the first number that is infinite or NaN."""

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
    """What was not finite in a step.

    Attributes:
        names: descriptions of the tensors that were not finite, in the order of their computation.
        examples: indices of the examples whose loss or metrics were not finite.
        size: how many examples the minibatch has.
    """

    names: list[str] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    size: int = 0

    @property
    def first(self) -> str:
        return self.names[0] if self.names else "a number"

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.examples[:5])) + (", ..." if len(self.examples) > 5 else "")
        where = f" for {len(self.examples)} of {self.size} examples (training images {shown})" if self.examples else ""
        return self.first + where

    def check(self, name: str, tensor: Tensor) -> None:
        """Record the tensor's name if the tensor is not finite."""
        if not tensor.isfinite().all():
            self.names.append(name)


def merged_over_processes(broken: Broken, batch: list[int]) -> tuple[Broken, list[int]]:
    """Return the findings and the minibatch of all processes together; each process gets the same.

    The names are those of one process, if possible one that knows the examples.
    """
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, (broken, batch))
    findings, shares = zip(*gathered, strict=True)
    first = max(findings, key=lambda one: (bool(one.examples), bool(one.names)))
    examples = [index for one in findings for index in one.examples]
    whole = [index for dealt in zip_longest(*shares) for index in dealt if index is not None]
    return Broken(first.names, examples, len(whole)), whole


def traced_step(step: Step, minibatch: Minibatch) -> Broken:
    """Take the step; return which pixels, outputs of modules, terms, gradients and parameters were not finite."""
    broken = Broken(size=len(minibatch.indices))
    with _traced_modules(step.vae, broken), _traced_objective(step, minibatch, broken):
        step(*minibatch)
    for name, parameter in step.vae.named_parameters():
        broken.check(f"the parameter {name} after the step", parameter)
        for key, tensor in step.optimizer.state[parameter].items():
            if isinstance(tensor, Tensor):
                broken.check(f"the optimizer's {key} of {name} after the step", tensor)
    return broken


@contextmanager
def _traced_modules(vae: nn.Module, broken: Broken) -> Iterator[None]:
    def check(name: str, module: nn.Module, _: Any, output: Any) -> None:
        for part, tensor in _tensors_of(output):
            broken.check(f"the {part} of {name} ({type(module).__name__})", tensor)

    handles = [m.register_forward_hook(partial(check, name)) for name, m in vae.named_modules() if name]
    for name, parameter in vae.named_parameters():
        if parameter.requires_grad:  # these hooks run in the order of the backward pass
            handles.append(parameter.register_hook(partial(broken.check, f"the gradient of {name}")))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _traced_objective(step: Step, minibatch: Minibatch, broken: Broken) -> Iterator[None]:
    objective = step.objective
    uncompiled = getattr(objective, "_orig_mod", objective)

    def traced(vae: VAE, x: Tensor, number: Tensor) -> Terms:
        broken.check("a pixel", x)
        terms = uncompiled(vae, x, number)
        names, values = [*step.names, "loss"], step.values(terms)
        finite = torch.stack([value.isfinite() for value in values]).all(0)
        for i in (*range(1, len(names)), 0):  # the first metric comes last, because it is the sum of the others
            broken.check(f"the {names[i]}", values[i])
        broken.examples = minibatch.indices[~finite.to(minibatch.indices.device)].tolist()
        return terms

    step.objective = traced
    try:
        yield
    finally:
        step.objective = objective


def _tensors_of(output: Any) -> list[tuple[str, Tensor]]:
    if isinstance(output, Tensor):
        return [("output", output)]
    while hasattr(output, "base_dist"):
        output = output.base_dist
    attributes = vars(output).items() if isinstance(output, Distribution) else ()
    return [(name, value) for name, value in attributes if isinstance(value, Tensor) and not name.startswith("_")]
