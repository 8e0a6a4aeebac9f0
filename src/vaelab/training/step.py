"""One optimiser step, from drawing the pixels to the new parameters. `cuda_graph` replays it on a GPU."""

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
        indices: this process's examples of the minibatch.
        size: how many examples the minibatch has over all processes.
        key: names the noise of the step.
    """

    indices: Tensor
    size: int
    key: Key


@runtime_checkable
class Together(Protocol):
    """Takes the steps of many runs together: `vaelab.training.stacked_runs.Ensemble`."""

    def take(self, module: Any, minibatches: Sequence[Minibatch]) -> int:
        """Takes the steps of one of the runs, all or as many as a signal allows; may wait for the others."""
        ...


class Step:
    """One optimiser step: draw the pixels, bound them, average over the processes, clip, descend.

    Args:
        vae: the model.
        objective: gives the terms of each example.
        data: what `x` is drawn from.
        optimizer: of the model's parameters.
        weight_prior: `weight_prior(vae)` is -log p(theta) in nats; over N_train it joins the loss.
        gradient_clip: clips the gradients of the parameters that it is given, such as `torch.nn.utils.clip_grad_norm_`.
        world_size: processes that share each minibatch.
        compile_objective: have `torch.compile` make one function of model and objective.

    Attributes:
        sums: of each metric that the objective declares, and of the loss, over the examples since they were last taken.
        step: optimiser steps taken before this one, a scalar on the device. It follows from the key of the minibatch,
            so it is right after a resume, and after a step that was undone.
        modules: everything that holds parameters or buffers.
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
        if compile_objective:  # with the same noise as without
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
        """Takes one step, on a `Minibatch`."""
        self.seed(key)
        self.body(indices, size)

    def seed(self, key: Key) -> None:
        """Point the noise, and the count of steps, at what `key` names."""
        seed_draws(self.data.device, *key)
        self.step.fill_(self.number_of(key))

    def number_of(self, key: Key) -> int:
        """Return how many optimiser steps come before the one that `key` names."""
        _, _, epoch, step, _ = key
        return epoch * self.data.batches_per_epoch + step

    def body(self, indices: Tensor, size: int) -> None:
        """The step from the noise on, which a CUDA graph can hold."""
        torch.clear_autocast_cache()  # it would keep the weights of the step before
        self.optimizer.zero_grad()
        losses, weights = [], []
        if len(indices) > 0:  # this process may have no example of a minibatch that is small
            terms = self.objective(self.vae, self.data.draw("train", indices), self.step)
            self.sums += torch.stack([value.detach() for value in self.values(terms)]).sum(1, dtype=torch.float64)
            losses, weights = [terms.loss], [torch.full_like(terms.loss, 1 / size)]  # a mean, at no cost
        if self.weight_prior is not None:
            losses.append(self.weight_prior(self.vae))
            weights.append(torch.full_like(losses[-1], 1 / (self.data.num_train * self.world_size)))
        if losses:
            torch.autograd.backward(losses, weights)
        if self.world_size > 1:
            add_up_gradients(self.parameters, some_empty=size < self.world_size)
            average([b for b in self.vae.buffers() if b.is_floating_point()], len(indices) / size)
        if self.gradient_clip is not None:
            self.gradient_clip(self.parameters)
        self.optimizer.step()

    def take_sums(self) -> Tensor:
        """The `sums`, which begin again at zero."""
        sums = self.sums.clone()
        self.sums.zero_()
        return sums

    def values(self, terms: Terms) -> list[Tensor]:
        """Return the per-example metrics as the objective declares them, and last the loss."""
        return [*(terms.metrics[name] for name in self.names), terms.loss]

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes: of the modules and the optimiser, and the sums."""
        return [*tensors_of(self.modules, self.optimizer), self.sums]


def check_clip(clip: Clip) -> None:
    """Tries a gradient clip on a gradient of 1, so that what cannot work fails before training begins.

    Raises:
        TypeError: arguments that it does not take.
        ValueError: it turns the gradient round, or into nothing.
    """
    parameter = torch.zeros(1, requires_grad=True)
    parameter.grad = torch.ones(1)
    clip([parameter])
    if not parameter.grad > 0:
        raise ValueError(f"gradient_clip makes {parameter.grad.item():g} of a gradient of 1: limits must be positive")


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over the processes, in one exchange."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def add_up_gradients(parameters: Sequence[Tensor], some_empty: bool) -> None:
    """Replaces each gradient by its sum over the processes; where none has one, there is none afterwards either.

    Args:
        parameters: the same in all processes.
        some_empty: whether a process may lack gradients that others have, for want of examples.
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
    """Replaces each tensor by its mean over the processes, in which this one counts by its weight; they add up to 1."""
    if tensors:
        if weight > 0:
            torch._foreach_mul_(list(tensors), weight)
        else:  # of infinity too
            torch._foreach_zero_(list(tensors))
        add_up(tensors)
