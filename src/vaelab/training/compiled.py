"""The gradient of a minibatch's loss as one compiled function, from the stored bytes to the gradients."""

import logging
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad

from vaelab.data import ImageData

if TYPE_CHECKING:
    from vaelab.training.step import StepTerms

log = logging.getLogger(__name__)

Named = dict[str, Tensor]


class CompiledGradient:
    """Computes the sums of the terms and the gradient of the mean loss of a minibatch, compiled as one function.

    `torch.compile` fuses the pixels, the bound and the backward pass into one function, which needs no autograd engine.
    It compiles once for each size of minibatch. The noise is that of the uncompiled step, but sums round differently.

    Args:
        terms: the terms of a step as a function of tensors.
        data: makes the pixels.
        world_size: how many processes share each minibatch.
    """

    def __init__(self, terms: "StepTerms", data: ImageData, world_size: int) -> None:
        self.terms = terms
        self.data = data
        self.world_size = world_size
        self.weights = dict(terms.named_parameters())
        self.buffers = [name for name, _ in terms.named_buffers()]
        self.functions: dict[tuple[int, int], Callable[..., tuple[Named, tuple[Tensor, Named]]]] = {}

    def __call__(self, levels: Tensor, noise: Tensor, size: int) -> Tensor:
        """Set the gradients of the parameters, and return the sums of the terms over the examples.

        Args:
            levels, noise: of this process's examples.
            size: the number of examples in the minibatch, over all processes.
        """
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        buffers = {name: self.terms.get_buffer(name) for name in self.buffers}
        key = len(levels), size
        if key not in self.functions:
            log.warning("compiling the training step for minibatches of %d; this may take half a minute", len(levels))
            self.functions[key] = self.compiled(levels, noise, size)
        with torch.no_grad():
            gradients, (sums, changed) = self.functions[key](weights, buffers, levels, noise)
            for name, buffer in buffers.items():
                buffer.copy_(changed[name])
        for name, gradient in gradients.items():
            self.weights[name].grad = gradient
        return sums

    def compiled(self, levels: Tensor, noise: Tensor, size: int) -> Callable[..., Any]:
        """Return the compiled function for minibatches of this size."""
        used = self.used(levels, noise, size)

        def gradient(
            weights: Named, buffers: Named, levels: Tensor, noise: Tensor
        ) -> tuple[Named, tuple[Tensor, Named]]:
            chosen = {name: weights[name] for name in used}
            fixed = {name: weight for name, weight in weights.items() if name not in used}
            return grad(self.loss, has_aux=True)(chosen, fixed, buffers, levels, noise, size)

        options = {"fallback_random": True, "guard_filter_fn": guards_of_numbers}
        return torch.compile(own_code(gradient), fullgraph=True, dynamic=False, options=options)

    def loss(
        self, weights: Named, fixed: Named, buffers: Named, levels: Tensor, noise: Tensor, size: int
    ) -> tuple[Tensor, tuple[Tensor, Named]]:
        """Return the mean loss over the minibatch, the sums of the terms, and the buffers after the forward pass."""
        (*values, penalty), after = self.terms.of(weights | fixed | buffers, self.data.pixels_from(levels, noise))
        sums = torch.stack([value.detach() for value in values]).sum(1, dtype=torch.float64)
        share = penalty.detach() * (len(levels) / self.data.num_train)  # joins each example's loss
        sums = torch.cat([sums[:-1], (sums[-1] + share).view(1)])
        loss = values[-1].sum() / size + penalty / (self.data.num_train * self.world_size)
        return loss, (sums, {name: after[name] for name in buffers})

    def used(self, levels: Tensor, noise: Tensor, size: int) -> list[str]:
        """Return the names of the parameters that the loss depends on; an optimiser leaves the others alone."""
        weights: Named = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        fixed: Named = {name: weight for name, weight in self.weights.items() if not weight.requires_grad}
        buffers = {name: self.terms.get_buffer(name).clone() for name in self.buffers}
        with torch.random.fork_rng([levels.device] if levels.is_cuda else []):
            loss, _ = self.loss(weights, fixed, buffers, levels, noise, size)
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        return [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy of a function with a code object of its own, because compilations are kept by code object."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace()
    return FunctionType(code, function.__globals__, function.__name__, function.__defaults__, function.__closure__)


def guards_of_numbers(guards: Sequence[Any]) -> list[bool]:
    """Keep only the guards of plain values that a user may change, such as `objective.beta`.

    The guards of tensors and modules would take a fifth of a small network's step. They are not needed, because one
    function is compiled for each model and size of minibatch.
    """
    values = ("EQUALS_MATCH", "CONSTANT_MATCH")
    return [guard.guard_type in values and not guard.is_global for guard in guards]
