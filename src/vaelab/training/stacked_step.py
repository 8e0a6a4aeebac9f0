"""Many models of one configuration, trained by shared forward and backward passes."""

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vaelab.randomness import drawing_from, stream
from vaelab.training.step import Key, Step, StepTerms, state_of
from vaelab.training.updates import hyperparameters

Keys = tuple[Key, ...]  # one key per model


class StackedStep:
    """Takes an optimiser step of several models at once, by `torch.func.vmap` over stacked parameters.

    The models may differ in their weights, minibatches, noise and learning rates, and in nothing else. Their parameters
    and buffers become views of stacked tensors, `[models, *shape]`, and the joint optimiser shares the state of their
    optimisers, so that each model can be saved and evaluated as if it were alone. Each model has its own generator,
    which draws the same noise as in a run alone. The results equal those of separate runs, up to rounding.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        first = steps[0]
        self.steps = steps
        self.data = first.data
        self.world_size = 1
        self.modules = nn.ModuleList([step.modules for step in steps])
        self.bounds = [StepTerms(step) for step in steps]
        self.weights = stack([dict(bound.named_parameters()) for bound in self.bounds])
        self.buffers = stack([dict(bound.named_buffers()) for bound in self.bounds])
        for name, weight in self.weights.items():
            weight.requires_grad_(self.bounds[0].get_parameter(name).requires_grad)
        self.optimizer, self.sources = join([step.optimizer for step in steps])
        self.streams = [torch.Generator(self.data.device) for _ in steps]
        self.sums = torch.stack([step.sums for step in steps])
        for step, sums in zip(steps, self.sums, strict=True):
            step.sums = sums
            step.optimizer._opt_called = True  # type: ignore[attr-defined]  # else a schedule warns of a missing step

    def __call__(self, indices: Tensor, size: int, key: Keys) -> None:
        """Take one step on minibatches `[models, examples]` of `size` examples; `key` names each model's noise."""
        self.seed(key)
        self.body(indices, size)

    def seed(self, key: Keys) -> None:
        """Seed each model's generator, and set the count of steps."""
        for generator, own in zip(self.streams, key, strict=True):
            generator.manual_seed(stream(*own))
        self.steps[0].step.fill_(self.steps[0].number_of(key[0]))  # the same for all models

    def body(self, indices: Tensor, size: int) -> None:
        """Do the part of the step that a CUDA graph can capture: everything after the seeding."""
        levels = self.data.levels("train", indices.flatten()).unflatten(0, indices.shape)
        noise = [self.data.noise(own, generator) for own, generator in zip(levels, self.streams, strict=True)]
        x = self.data.pixels_from(levels, torch.stack(noise))
        with drawing_from(self.streams):
            *terms, penalty = torch.vmap(self.bound_of, randomness="error")(self.weights, self.buffers, x)
        loss = terms[-1].sum() / size + penalty.sum() / self.data.num_train
        self.descend(loss)
        self.sums += torch.stack(terms, 1).detach().sum(2, dtype=torch.float64)
        self.sums[:, -1] += penalty.detach() * (indices.shape[1] / self.data.num_train)  # joins each example's loss

    def bound_of(self, weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> tuple[Tensor, ...]:
        """Return the terms of one model on its pixels, and -log p(theta)."""
        tensors = weights | buffers
        terms, after = self.bounds[0].of(tensors, x)
        for name, tensor in after.items():
            if tensor is not tensors[name]:  # the module has reassigned the tensor, and the new one would be lost
                raise RuntimeError(f"{name} is reassigned, but stacked models need it changed in place")
        return terms

    def descend(self, loss: Tensor) -> None:
        """Compute the gradients of all models, clip those of each model, and let the joint optimiser take a step."""
        trainable = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        gradients = torch.autograd.grad(loss, list(trainable.values()), allow_unused=True)
        for name, gradient in zip(trainable, gradients, strict=True):
            # contiguous, because fused optimisers expect gradients with the memory layout of their parameters
            parts = [None] * len(self.steps) if gradient is None else gradient.contiguous()
            for bound, part in zip(self.bounds, parts, strict=True):
                bound.get_parameter(name).grad = part
        for step in self.steps:
            if step.gradient_clip is not None:
                step.gradient_clip(step.parameters)
        self.optimizer.step()

    def follow_rates(self) -> bool:
        """Copy the hyperparameters of the models' optimisers; return False if they now differ within a joint group."""
        for group, sources in zip(self.optimizer.param_groups, self.sources, strict=True):
            if any(numbers(source) != numbers(sources[0]) for source in sources):
                return False
            group.update(numbers(sources[0]))
        return True

    def holds(self, steps: Sequence[Step]) -> bool:
        """Return whether `steps` are the stacked ones, and their tensors are still views of the stacked tensors."""
        views = [
            (bound.get_parameter(name), w[i]) for name, w in self.weights.items() for i, bound in enumerate(self.bounds)
        ]
        return (
            list(steps) == list(self.steps)
            and all(parameter.data_ptr() == view.data_ptr() for parameter, view in views)
            and all(self.optimizer.state[p] is step.optimizer.state[p] for step in steps for p in step.parameters)
        )

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes, of all models."""
        return [*self.modules.parameters(), *self.modules.buffers(), *state_of(self.optimizer), self.sums]


def stack(models: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Stack the tensors of the models by name, and make each tensor a view of its part of the stack."""
    stacked = {name: torch.stack([model[name].detach() for model in models]) for name in models[0]}
    for i, model in enumerate(models):
        for name, tensor in model.items():
            tensor.data = stacked[name][i]
    return stacked


def join(optimizers: Sequence[Optimizer]) -> tuple[Optimizer, list[list[dict[str, Any]]]]:
    """Join optimisers into one that shares their state. Also return, for each joint group, the groups that it merges.

    The joint optimiser is a shallow copy of the first, with new `param_groups` and `state`. Groups with equal
    hyperparameters become one group.
    """
    alike: dict[str, list[dict[str, Any]]] = {}
    joint = copy(optimizers[0])
    joint.state = defaultdict(dict)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            alike.setdefault(repr(numbers(group)), []).append(group)
            joint.state |= {parameter: optimizer.state[parameter] for parameter in group["params"]}
    joint.param_groups = [
        {**same[0], "params": [p for group in same for p in group["params"]]} for same in alike.values()
    ]
    return joint, list(alike.values())


def numbers(group: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters of an optimiser's group, with its learning rate."""
    return {"lr": group["lr"], **hyperparameters(group)}
