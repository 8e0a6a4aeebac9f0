"""A traced optimiser step, which finds the first number that is infinite or NaN."""

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
    """What was not finite in a step."""

    batch: list[int]  # the indices of the examples in the minibatch
    examples: list[int] = field(default_factory=list)  # those whose loss or metrics were not finite
    first: str = ""  # a description of the first non-finite tensor; empty if all were finite

    def __str__(self) -> str:
        if not self.examples:
            return self.first
        shown = ", ".join(map(str, self.examples[:5])) + (", ..." if len(self.examples) > 5 else "")
        return f"{self.first} for {len(self.examples)} of {len(self.batch)} examples (training images {shown})"

    def check(self, name: str, tensor: Tensor) -> None:
        """Store `name` in `first` if no earlier tensor failed and this one is not finite."""
        if not self.first and not tensor.isfinite().all():
            self.first = name

    def check_output(self, name: str, module: nn.Module, _: Any, output: Any) -> None:
        """Check the output of a module: a tensor, or the parameters of a distribution."""
        while hasattr(output, "base_dist"):
            output = output.base_dist
        parts = vars(output) if isinstance(output, Distribution) else {"output": output}
        for part, value in parts.items():
            if isinstance(value, Tensor) and not part.startswith("_"):
                self.check(f"the {part} of {name} ({type(module).__name__})", value)


def traced_step(step: Step, minibatch: Minibatch) -> Broken:
    """Take the step; return the first tensor that was not finite, and the examples whose loss or metrics were not."""
    broken = Broken(minibatch.indices.tolist())
    objective, compiled = step.objective, step.compiled_step

    def traced(vae: VAE, x: Tensor, number: Tensor) -> Terms:
        broken.check("a pixel", x)
        terms = objective(vae, x, number)
        finite = torch.stack([value.isfinite() for value in step.values(terms)])
        names = [name for name, all_finite in zip(step.names, finite.all(1), strict=True) if not all_finite]
        broken.first = broken.first or (f"a term of the objective ({', '.join(names)})" if names else "")
        broken.examples = minibatch.indices[~finite.all(0).to(minibatch.indices.device)].tolist()
        return terms

    handles = [
        m.register_forward_hook(partial(broken.check_output, name)) for name, m in step.vae.named_modules() if name
    ]
    parameters = list(step.vae.named_parameters())
    for name, parameter in parameters:
        if parameter.requires_grad:  # these hooks run in the order of the backward pass
            handles.append(parameter.register_hook(partial(broken.check, f"the gradient of {name}")))
    step.objective, step.compiled_step = traced, None
    try:
        step(*minibatch)
    finally:
        step.objective, step.compiled_step = objective, compiled
        for handle in handles:
            handle.remove()
    for name, parameter in parameters:
        broken.check(f"the parameter {name} after the step", parameter)
        for key, value in step.optimizer.state[parameter].items():
            if isinstance(value, Tensor):
                broken.check(f"the optimizer's {key} of {name} after the step", value)
    return broken


def over_processes(broken: Broken) -> Broken:
    """Merge the findings of all processes. Prefer the `first` of a process that found failing `examples`."""
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, broken)
    known = max(gathered, key=lambda one: (bool(one.examples), bool(one.first)))
    examples = [index for one in gathered for index in one.examples]
    dealt = zip_longest(*(one.batch for one in gathered))
    return Broken([index for indices in dealt for index in indices if index is not None], examples, known.first)
