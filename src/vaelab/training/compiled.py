"""The optimiser step as one compiled function, from the stored bytes to the new parameters."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.func import grad

from vaelab.training.updates import UPDATES, Update, hyperparameters

if TYPE_CHECKING:
    from vaelab.training.step import Step, StepTerms

log = logging.getLogger(__name__)

Named = dict[str, Tensor]
States = dict[str, dict[str, Tensor]]  # of the optimiser, by the name of the parameter


class CompiledStep:
    """Takes an optimiser step by one compiled function, or computes only the gradient if the update is not compiled.

    `torch.compile` fuses the pixels, the bound, the backward pass, the clip and the update into one function, which
    needs no autograd engine. It compiles once for each size of minibatch. The noise is that of the uncompiled step, but
    sums round differently.

    Args:
        step: the uncompiled step. It takes the first step of a run, in which an optimiser makes its state.
        terms: the terms of the step as a function of tensors.
    """

    def __init__(self, step: "Step", terms: "StepTerms") -> None:
        self.step, self.terms, self.data, self.optimizer = step, terms, step.data, step.optimizer
        self.weights = dict(terms.named_parameters())
        self.buffers = [name for name, _ in terms.named_buffers()]
        self.functions: dict[tuple[int, int], Callable[..., Named]] = {}
        self.numbers = [hyperparameters(group) for group in self.optimizer.param_groups]
        self.updates: list[tuple[Update, list[str]]] = []  # of each group of parameters, with their names
        if reason := self.why_not_updated():
            log.warning("the gradient is compiled, but the optimizer's update is not, because %s", reason)
            return
        names = {id(self.weights[name]): name for name in self.used}
        for group, numbers in zip(self.optimizer.param_groups, self.numbers, strict=True):
            update = UPDATES[type(self.optimizer)](numbers)
            self.updates.append((update, [names[id(p)] for p in group["params"] if id(p) in names]))
        # on a GPU compiled as one kernel; on a CPU a call of a compiled function would take longer than these numbers
        compiles = self.data.device.type == "cuda"
        self.factors_of = [compiled(update.factors) if compiles else update.factors for update, _ in self.updates]

    def why_not_updated(self) -> str | None:
        """Return why the function only computes the gradient, or None."""
        kind = type(self.optimizer)
        if kind not in UPDATES:
            return f"vaelab compiles {', '.join(known.__name__ for known in UPDATES)}, and not {kind.__name__}"
        if self.step.world_size > 1:
            return "several processes add up their gradients"
        if self.optimizer._optimizer_step_pre_hooks or self.optimizer._optimizer_step_post_hooks:
            return "the optimizer has hooks of its steps"
        return None

    def ready(self) -> bool:
        """Return whether the optimiser has the state that the function changes.

        If a schedule has changed a number that was compiled, the update is left to the optimiser from now on.
        """
        if self.updates and self.numbers != [hyperparameters(group) for group in self.optimizer.param_groups]:
            log.warning("the optimizer's update is no longer compiled, because more than its learning rate changes")
            self.updates = []
            self.functions.clear()
        states = self.optimizer.state
        return all(
            states[self.weights[name]].get(state) is not None
            for update, names in self.updates
            for name in names
            for state in update.states()
        )

    def __call__(self, indices: Tensor, size: int) -> bool:
        """Add the terms of a minibatch to the step's sums, and set the gradients of the parameters or the parameters.

        Returns:
            whether the parameters have been updated.
        """
        levels = self.data.levels("train", indices)
        noise = self.data.noise(levels)
        if (len(levels), size) not in self.functions:
            log.warning("compiling the training step for minibatches of %d; this may take half a minute", len(levels))
            self.functions[len(levels), size] = compiled(self.function(size))
            self.optimizer.zero_grad()
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        buffers = {name: self.terms.get_buffer(name) for name in self.buffers}
        with torch.no_grad():
            states = {name: self.optimizer.state[self.weights[name]] for name in self.used} if self.updates else {}
            factors = self.factors(states) if self.updates else []
            function = self.functions[len(levels), size]
            gradients = function(weights, buffers, self.step.sums, levels, noise, states, factors)
        for name, gradient in gradients.items():
            self.weights[name].grad = gradient
        return bool(self.updates)

    def factors(self, states: States) -> list[tuple[Tensor, ...]]:
        """Count the step in the optimiser's states, and return the factors of each group's update."""
        steps = [state["step"] for state in states.values() if "step" in state]
        if steps:
            torch._foreach_add_(steps, 1)
        step = steps[0].to(self.data.device) if steps else None
        rates = [
            torch.as_tensor(group["lr"], dtype=torch.float64, device=self.data.device)
            for group in self.optimizer.param_groups
        ]
        return [factors(rate, step) for factors, rate in zip(self.factors_of, rates, strict=True)]

    def function(self, size: int) -> Callable[..., Named]:
        """Return the function to compile for minibatches of this size."""
        used, updates = self.used, self.updates

        def step(
            weights: Named, buffers: Named, sums: Tensor, levels: Tensor, noise: Tensor, states: States, factors: Any
        ) -> Named:
            chosen = {name: weights[name] for name in used}
            fixed = {name: weight for name, weight in weights.items() if name not in used}
            gradients, (found, after) = grad(self.loss, has_aux=True)(chosen, fixed, buffers, levels, noise, size)
            sums.add_(found)
            for name, buffer in buffers.items():
                buffer.copy_(after[name])
            if not updates:
                return gradients
            gradients = self.clipped(gradients)
            for (update, names), numbers in zip(updates, factors, strict=True):
                for name in names:
                    update(weights[name], gradients[name], states[name], numbers)
            return {}

        return step

    def loss(
        self, weights: Named, fixed: Named, buffers: Named, levels: Tensor, noise: Tensor, size: int
    ) -> tuple[Tensor, tuple[Tensor, Named]]:
        """Return the mean loss over the minibatch, the sums of the terms, and the buffers after the forward pass."""
        (*values, penalty), after = self.terms.of(weights | fixed | buffers, self.data.pixels_from(levels, noise))
        sums = torch.stack([value.detach() for value in values]).sum(1, dtype=torch.float64)
        share = penalty.detach() * (len(levels) / self.data.num_train)  # joins each example's loss
        sums = torch.cat([sums[:-1], (sums[-1] + share).view(1)])
        loss = values[-1].sum() / size + penalty / (self.data.num_train * self.step.world_size)
        return loss, (sums, {name: after[name] for name in buffers})

    def clipped(self, gradients: Named) -> Named:
        """Return the gradients after the clip, which expects them in `grad` of parameters."""
        if self.step.gradient_clip is None:
            return gradients
        places = {name: torch.empty_like(gradient) for name, gradient in gradients.items()}
        for name, place in places.items():
            place.grad = gradients[name]
        self.step.gradient_clip(list(places.values()))
        return {name: place.grad for name, place in places.items() if place.grad is not None}

    @cached_property
    def used(self) -> list[str]:
        """The names of the parameters that the loss depends on; an optimiser leaves the others alone."""
        levels = self.data.levels("train", torch.arange(2, device=self.data.device))
        weights: Named = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        fixed: Named = {name: weight for name, weight in self.weights.items() if not weight.requires_grad}
        buffers = {name: self.terms.get_buffer(name).clone() for name in self.buffers}
        with torch.random.fork_rng([levels.device] if levels.is_cuda else []):
            loss, _ = self.loss(weights, fixed, buffers, levels, self.data.noise(levels), len(levels))
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        return [name for name, gradient in zip(weights, found, strict=True) if gradient is not None]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled anew, although compilations are kept by code object."""

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    code = called.__code__.replace()  # a code object of its own
    own = FunctionType(code, called.__globals__, called.__name__, called.__defaults__, called.__closure__)
    options = {"fallback_random": True, "guard_filter_fn": guards_of_numbers}
    return torch.compile(own, fullgraph=True, dynamic=False, options=options)


def guards_of_numbers(guards: Sequence[Any]) -> list[bool]:
    """Keep only the guards of plain values that a user may change, such as `objective.beta`.

    The guards of tensors and modules would take a fifth of a small network's step. They are not needed, because one
    function is compiled for each model and size of minibatch.
    """
    values = ("EQUALS_MATCH", "CONSTANT_MATCH")
    return [guard.guard_type in values and not guard.is_global for guard in guards]
