"""One optimiser step, from drawing the pixels to the new parameters."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils._pytree import tree_leaves

from vaelab.data import ImageData
from vaelab.objectives import Objective, Terms
from vaelab.objectives.base import LOSS
from vaelab.randomness import Stage, seed_draws
from vaelab.training.compiled import CompiledStep
from vaelab.vae import VAE

Key = tuple[Stage, *tuple[int, ...]]
Clip = Callable[[Iterable[Tensor]], Any]


class Minibatch(NamedTuple):
    """The work of one optimiser step."""

    indices: Tensor  # the examples of the minibatch that this process gets
    size: int  # how many examples the minibatch has over all processes
    key: Key  # of the step's noise; see `vaelab.randomness.stream`


# takes the steps of one run together with those of other runs, and returns how many it took
Together = Callable[[Any, Sequence[Minibatch]], int]


@dataclass(eq=False)
class Step:
    """One optimiser step: draw the pixels, compute the loss and its gradient, sum over processes, clip, update.

    `VAEModule` describes the arguments that have no comment here.
    """

    vae: VAE
    objective: Callable[..., Terms]
    data: ImageData  # draws the pixels
    optimizer: Optimizer  # of the model's parameters
    weight_prior: nn.Module | None = None
    gradient_clip: Clip | None = None
    world_size: int = 1  # how many processes share each minibatch
    compiled: bool = False
    tell: Callable[..., None] | None = None  # calls a hook of the trainer's callbacks, if one acts within the step
    streams: ClassVar[Sequence[torch.Generator]] = ()  # that the step draws from, besides the device's global one

    def __post_init__(self) -> None:
        objective = cast(Objective, self.objective)
        self.names = [*(metric.name for metric in objective.metrics), LOSS.name]  # the loss includes the weight prior
        parts = [self.vae, objective, self.weight_prior]
        self.modules = nn.ModuleList([part for part in parts if part is not None])
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        # of each of `names`, over this process's examples since the last `take_sums`
        self.sums = torch.zeros(len(self.names), dtype=torch.float64, device=self.data.device)
        self.step = torch.zeros((), dtype=torch.int64, device=self.data.device)  # optimiser steps before this one
        self.compiled_step = CompiledStep(self, StepTerms(self)) if self.compiled else None

    def __call__(self, indices: Tensor, size: int, key: Key) -> None:
        """Take one step on a `Minibatch`."""
        self.seed(key)
        self.body(indices, size)

    def seed(self, key: Key) -> None:
        """Seed the noise and set `step` from the key, so that both are correct after a resume or an undone step."""
        seed_draws(self.data.device, *key)
        self.step.fill_(self.number_of(key))

    def number_of(self, key: Key) -> int:
        """Return how many optimiser steps come before the one that `key` names."""
        _, _, epoch, step, _ = key
        return epoch * self.data.batches_per_epoch + step

    def body(self, indices: Tensor, size: int) -> None:
        """Do the part of the step that a CUDA graph can capture: everything after the seeding."""
        if self.compiled_step is not None and len(indices) > 0 and self.compiled_step.ready():
            if self.compiled_step(indices, size):
                return
        else:
            self.told("on_before_zero_grad", lambda: self.optimizer)
            self.optimizer.zero_grad()
            self.gradient(indices, size)
        if self.world_size > 1:
            add_up_gradients(self.parameters, some_empty=size < self.world_size)
            average([b for b in self.modules.buffers() if b.is_floating_point()], len(indices) / size)
        if self.gradient_clip is not None:
            self.gradient_clip(self.parameters)
        self.told("on_before_optimizer_step", lambda: self.optimizer)
        self.optimizer.step()

    def gradient(self, indices: Tensor, size: int) -> None:
        """Add the terms of the minibatch to `sums`, and set the gradients of the mean loss."""
        losses, weights = [], []
        if len(indices) > 0:  # a process may get no example of a small minibatch
            terms = self.objective(self.vae, self.data.draw("train", indices), self.step)
            self.sums += torch.stack([value.detach() for value in self.values(terms)]).sum(1, dtype=torch.float64)
            # weights of 1 / size give the gradient of the mean, without a kernel that computes the mean
            losses, weights = [terms.loss], [torch.full_like(terms.loss, 1 / size)]
        if self.weight_prior is not None:
            losses.append(self.weight_prior(self.vae))
            self.sums[-1] += losses[-1].detach() * (len(indices) / self.data.num_train)  # joins each example's loss
            weights.append(torch.full_like(losses[-1], 1 / (self.data.num_train * self.world_size)))
        if losses:
            self.told("on_before_backward", lambda: dot(losses, weights))
            torch.autograd.backward(losses, weights)
            self.told("on_after_backward")

    def told(self, hook: str, *arguments: Callable[[], Any]) -> None:
        """Call a hook of the trainer's callbacks, if one of them acts within the step."""
        if self.tell is not None:
            self.tell(hook, *(argument() for argument in arguments))

    def take_sums(self) -> Tensor:
        """Return the `sums`, and reset them to zero."""
        sums = self.sums.clone()
        self.sums.zero_()
        return sums

    def values(self, terms: Terms) -> list[Tensor]:
        """Return the per-example values of `terms`, in the order of `names`."""
        values = {**terms.metrics, LOSS.name: terms.loss}
        return [values[name] for name in self.names]

    def tensors(self) -> list[Tensor]:
        """Return the parameters and buffers."""
        return [*self.modules.parameters(), *self.modules.buffers()]

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        return [*self.tensors(), *state_of(self.optimizer), self.sums]


class StepTerms(nn.Module):
    """The terms and the weight prior of a step as one module, whose tensors `functional_call` can replace."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.vae, self.objective, self.weight_prior = step.vae, step.objective, step.weight_prior
        self.step = step
        self.places = places(self)

    def of(self, tensors: dict[str, Tensor], x: Tensor) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        """Return the terms if `tensors` were the parameters and buffers, and the tensors after the forward pass."""
        there = {place: tensors[name] for place, name in self.places.items()}
        terms = functional_call(self, there, (x,), tie_weights=False)
        return terms, {name: there[place] for place, name in self.places.items()}

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        terms = self.objective(self.vae, x, self.step.step)
        penalty = x.new_zeros(()) if self.weight_prior is None else self.weight_prior(self.vae)
        return *self.step.values(terms), penalty


def places(module: nn.Module) -> dict[str, str]:
    """Map the path of each tensor in `module` to its name in `named_parameters` or `named_buffers`.

    A tensor that is registered at several paths has one name.
    """
    tensors = [*module.named_parameters(), *module.named_buffers()]
    names = {id(tensor): name for name, tensor in tensors}
    return {
        f"{prefix}.{name}" if prefix else name: names[id(tensor)]
        for prefix, part in module.named_modules()
        for name, tensor in [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
    }


def dot(losses: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return the weighted sum of all losses."""
    return torch.stack([(loss * weight).sum() for loss, weight in zip(losses, weights, strict=True)]).sum()


def state_of(optimizer: Optimizer) -> list[Tensor]:
    """Return the tensors of the optimiser's state."""
    values = [value for state in optimizer.state.values() for value in state.values()]
    # search only these few values for nested tensors, because tree_leaves of all values would be slow
    nested = [value for value in values if not isinstance(value, Tensor)]
    return [value for value in (*values, *tree_leaves(nested)) if isinstance(value, Tensor)]


def check_clip(clip: Clip) -> None:
    """Refuse a gradient clip whose arguments are wrong, or that does not keep a gradient of 1 positive."""
    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.ones(1)
    clip([parameter])
    if not parameter.grad > 0:
        raise ValueError(f"gradient_clip turns a gradient of 1 into {parameter.grad.item():g}: limits must be positive")


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, with one all-reduce."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def add_up_gradients(parameters: Sequence[Tensor], some_empty: bool) -> None:
    """Replace each gradient by its sum over all processes. A parameter that no process has a gradient for keeps None.

    If `some_empty`, a process may have no example, and so lack gradients that other processes have.
    """
    if not some_empty:
        add_up([p.grad for p in parameters if p.grad is not None])
        return
    there = torch.stack([torch.full((), float(p.grad is not None), device=p.device) for p in parameters])
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    add_up([*gradients, there])
    for parameter, gradient, count in zip(parameters, gradients, there.tolist(), strict=True):
        parameter.grad = gradient if count > 0 else None


def average(tensors: Sequence[Tensor], weight: float) -> None:
    """Replace each tensor by its weighted mean over all processes. `weight` is this process's; all weights sum to 1."""
    if tensors:
        if weight > 0:
            torch._foreach_mul_(list(tensors), weight)
        else:  # not multiplied, because 0 times infinity is NaN
            torch._foreach_zero_(list(tensors))
        add_up(tensors)
