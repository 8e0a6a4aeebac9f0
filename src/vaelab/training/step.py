"""One optimiser step, from drawing the pixels to the new parameters."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from vaelab.data import ImageData
from vaelab.objectives import Objective, Terms
from vaelab.randomness import Stage, seed_draws
from vaelab.training.tensors import tensors_of
from vaelab.vae import VAE

Key = tuple[Stage, *tuple[int, ...]]
Clip = Callable[[Iterable[Tensor]], Any]


class Minibatch(NamedTuple):
    """The work of one optimiser step.

    Attributes:
        indices: the examples of the minibatch that this process gets.
        size: how many examples the minibatch has over all processes.
        key: the key of the step's noise; see `vaelab.randomness.stream`.
    """

    indices: Tensor
    size: int
    key: Key


@runtime_checkable
class Together(Protocol):
    """Takes the steps of several runs as one; implemented by `vaelab.training.stacked_runs.Ensemble`."""

    def take(self, module: Any, minibatches: Sequence[Minibatch]) -> int:
        """Take a step of one run on each minibatch, fewer after a signal; return how many. May wait for other runs."""
        ...


class Step:
    """One optimiser step: draw the pixels, compute the loss and its gradient, sum over processes, clip, update.

    Args:
        vae: the model.
        objective: computes the terms of each example.
        data: the data that the pixels are drawn from.
        optimizer: the optimiser of the model's parameters.
        weight_prior: `weight_prior(vae)` is -log p(theta) in nats; divided by N_train, it is added to the loss.
        gradient_clip: `gradient_clip(parameters)` clips their gradients, as `torch.nn.utils.clip_grad_norm_` does.
        world_size: how many processes share each minibatch.
        compile_objective: compile the model and the objective with `torch.compile`.

    Attributes:
        sums: the sums of the objective's metrics and of the loss, over this process's examples since `take_sums`.
        step: the number of optimiser steps before this one, a scalar on the device. It is computed from the minibatch's
            key, so that it is right after a resume and after an undone step.
        modules: all modules with parameters or buffers.
    """

    def __init__(
        self,
        vae: VAE,
        objective: Objective,
        data: ImageData,
        optimizer: Optimizer,
        weight_prior: nn.Module | None = None,
        gradient_clip: Clip | None = None,
        world_size: int = 1,
        compile_objective: bool = False,
    ) -> None:
        self.vae = vae
        self.objective: Callable[[VAE, Tensor, Tensor], Terms] = objective
        if compile_objective:  # fallback_random gives the same noise as without compilation
            self.objective = torch.compile(objective, dynamic=False, options={"fallback_random": True})
        self.names = [metric.name for metric in objective.metrics]
        self.modules = nn.ModuleList([vae, objective, *([] if weight_prior is None else [weight_prior])])
        self.data = data
        self.optimizer = optimizer
        self.weight_prior = weight_prior
        self.gradient_clip = gradient_clip
        self.world_size = world_size
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.sums = torch.zeros(len(self.names) + 1, dtype=torch.float64, device=data.device)
        self.step = torch.zeros((), dtype=torch.int64, device=data.device)

    def __call__(self, indices: Tensor, size: int, key: Key) -> None:
        """Take one step on a `Minibatch`."""
        self.seed(key)
        self.body(indices, size)

    def seed(self, key: Key) -> None:
        """Seed the noise, and set the count of steps, from `key`."""
        seed_draws(self.data.device, *key)
        self.step.fill_(self.number_of(key))

    def number_of(self, key: Key) -> int:
        """Return how many optimiser steps come before the one that `key` names."""
        _, _, epoch, step, _ = key
        return epoch * self.data.batches_per_epoch + step

    def body(self, indices: Tensor, size: int) -> None:
        """Do the part of the step that a CUDA graph can capture: everything after the seeding."""
        torch.clear_autocast_cache()  # it holds casts of the weights before the last step
        self.optimizer.zero_grad()
        losses, weights = [], []
        if len(indices) > 0:  # a process may get no example of a small minibatch
            terms = self.objective(self.vae, self.data.draw("train", indices), self.step)
            self.sums += torch.stack([value.detach() for value in self.values(terms)]).sum(1, dtype=torch.float64)
            losses, weights = [terms.loss], [torch.full_like(terms.loss, 1 / size)]  # a mean without its own kernel
        if self.weight_prior is not None:
            losses.append(self.weight_prior(self.vae))
            weights.append(torch.full_like(losses[-1], 1 / (self.data.num_train * self.world_size)))
        if losses:
            torch.autograd.backward(losses, weights)
        if self.world_size > 1:
            add_up_gradients(self.parameters, some_empty=size < self.world_size)
            average([b for b in self.modules.buffers() if b.is_floating_point()], len(indices) / size)
        if self.gradient_clip is not None:
            self.gradient_clip(self.parameters)
        self.optimizer.step()

    def take_sums(self) -> Tensor:
        """Return the `sums`, and reset them to zero."""
        sums = self.sums.clone()
        self.sums.zero_()
        return sums

    def values(self, terms: Terms) -> list[Tensor]:
        """Return the per-example metrics in the order in which the objective declares them, then the loss."""
        return [*(terms.metrics[name] for name in self.names), terms.loss]

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes: those of the modules and the optimiser, and the sums."""
        return [*tensors_of(self.modules, self.optimizer), self.sums]


def check_clip(clip: Clip) -> None:
    """Try a gradient clip on a gradient of 1, so that a wrong configuration fails before training begins.

    Raises:
        TypeError: the clip does not take its arguments.
        ValueError: the clipped gradient is not positive.
    """
    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.ones(1)
    clip([parameter])
    if not parameter.grad > 0:
        raise ValueError(f"gradient_clip makes {parameter.grad.item():g} of a gradient of 1: limits must be positive")


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, with one all-reduce."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def add_up_gradients(parameters: Sequence[Tensor], some_empty: bool) -> None:
    """Replace each gradient by its sum over all processes; a parameter without a gradient in any process stays so.

    Args:
        parameters: the same parameters in all processes.
        some_empty: whether a process may have no example, and so lack gradients that other processes have.
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
    """Replace each tensor by its weighted mean over all processes; `weight` is this process's, and they sum to 1."""
    if tensors:
        if weight > 0:
            torch._foreach_mul_(list(tensors), weight)
        else:  # not a multiplication, because 0 times infinity is NaN
            torch._foreach_zero_(list(tensors))
        add_up(tensors)
