"""The optimiser step as one compiled function, from the stored bytes to the new parameters."""

import logging
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException
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
        step: the uncompiled step, taken whenever the optimiser lacks its state, as at the start of a run with Adam.
        terms: the terms of the step as a function of tensors.
    """

    def __init__(self, step: "Step", terms: "StepTerms") -> None:
        self.step, self.terms, self.data, self.optimizer = step, terms, step.data, step.optimizer
        self.prepare()

    def prepare(self) -> None:
        """Find out what can be compiled, for the parameters that require a gradient now."""
        self.weights = dict(self.terms.named_parameters())
        self.buffers = [name for name, _ in self.terms.named_buffers()]
        self.trained = [weight.requires_grad for weight in self.weights.values()]
        self.used = self.find_used()
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
        self.optimizer._opt_called = True  # type: ignore[attr-defined]  # else a schedule warns of a missing step
        # on a GPU compiled as one kernel; on a CPU a call of a compiled function would take longer than these numbers
        compiles = self.data.device.type == "cuda"
        self.factors_of = [compiled(update.factors) if compiles else update.factors for update, _ in self.updates]

    def why_not_updated(self) -> str | None:
        """Return why the function only computes the gradient, or None."""
        kind = type(self.optimizer)
        if kind not in UPDATES:
            return f"vaelab cannot compile {kind.__name__}, only {', '.join(known.__name__ for known in UPDATES)}"
        if self.step.world_size > 1:
            return "several processes add up their gradients"
        if self.optimizer._optimizer_step_pre_hooks or self.optimizer._optimizer_step_post_hooks:
            return "the optimizer has hooks of its steps"
        if self.step.gradient_clip is not None and (reason := self.why_not_clipped()):
            return f"its gradient_clip cannot be compiled ({reason})"
        return None

    def why_not_clipped(self) -> str | None:
        """Trace the clip, and return why that failed, or None."""
        weights = {name: self.weights[name].detach().clone() for name in self.used}
        try:
            compiled(self.clipped, "eager")(weights, {name: torch.ones_like(w) for name, w in weights.items()})
        except TorchDynamoException as error:
            return str(error).splitlines()[0]
        return None

    def ready(self) -> bool:
        """Return whether the optimiser has the state that the function changes.

        If a schedule has changed a number that was compiled, the update is left to the optimiser from now on.
        """
        if self.trained != [weight.requires_grad for weight in self.weights.values()]:
            self.prepare()
        if self.updates and self.numbers != [hyperparameters(group) for group in self.optimizer.param_groups]:
            self.only_gradient("more than its learning rate changes")
        states = self.optimizer.state
        return all(
            states[self.weights[name]].get(state) is not None
            for update, names in self.updates
            for name in names
            for state in update.states()
        )

    def only_gradient(self, reason: str) -> None:
        """Leave the update to the optimiser from now on."""
        log.warning("the optimizer's update is no longer compiled, because %s", reason)
        self.updates = []
        self.functions.clear()

    def __call__(self, indices: Tensor, size: int) -> bool:
        """Add the minibatch's terms to the step's sums.

        Then update the parameters, or only set their gradients if the update is not compiled.

        Returns:
            whether the parameters have been updated.
        """
        levels = self.data.levels("train", indices)
        noise = self.data.noise(levels)
        if (len(levels), size) not in self.functions:
            counts = {float(state["step"]) for state in self.states().values() if "step" in state}
            if self.updates and len(counts) > 1:
                self.only_gradient("its parameters have taken different numbers of steps")
            log.warning("compiling the training step for minibatches of %d; this may take half a minute", len(levels))
            self.functions[len(levels), size] = compiled(self.function(size))
            self.optimizer.zero_grad()
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        buffers = {name: self.terms.get_buffer(name) for name in self.buffers}
        with torch.no_grad():
            states = self.states() if self.updates else {}
            factors = self.factors(states) if self.updates else []
            function = self.functions[len(levels), size]
            gradients = function(weights, buffers, self.step.sums, levels, noise, states, factors)
        for name, gradient in gradients.items():
            self.weights[name].grad = gradient
        return bool(self.updates)

    def states(self) -> States:
        """Return the optimiser's state of each used parameter."""
        return {name: self.optimizer.state[self.weights[name]] for name in self.used}

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
            gradients = self.clipped(weights, gradients)
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

    def clipped(self, weights: Named, gradients: Named) -> Named:
        """Return the clipped gradients. A clip works on `parameter.grad`, so put each gradient in one."""
        if self.step.gradient_clip is None:
            return gradients
        places = {name: weights[name].detach() for name in gradients}
        for name, place in places.items():
            place.grad = gradients[name]
        self.step.gradient_clip(list(places.values()))
        return {name: place.grad for name, place in places.items() if place.grad is not None}

    def find_used(self) -> list[str]:
        """Return the names of the optimiser's parameters that the loss depends on; it leaves the others alone."""
        levels = self.data.levels("train", torch.arange(min(2, self.data.num_train), device=self.data.device))
        weights: Named = {name: weight for name, weight in self.weights.items() if weight.requires_grad}
        fixed: Named = {name: weight for name, weight in self.weights.items() if not weight.requires_grad}
        buffers = {name: self.terms.get_buffer(name).clone() for name in self.buffers}
        with torch.random.fork_rng([levels.device] if levels.is_cuda else []):
            loss, _ = self.loss(weights, fixed, buffers, levels, self.data.noise(levels), len(levels))
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        own = {id(parameter) for parameter in self.step.parameters}
        return [n for (n, w), g in zip(weights.items(), found, strict=True) if g is not None and id(w) in own]


def compiled(function: Callable[..., Any], backend: str = "inductor") -> Callable[..., Any]:
    """Compile the function apart from all others. PyTorch keeps compilations by code object, so give it a new one."""

    def called(*arguments: Any) -> Any:
        return function(*arguments)

    code = called.__code__.replace()  # a code object of its own
    own = FunctionType(code, called.__globals__, called.__name__, called.__defaults__, called.__closure__)
    options = {"fallback_random": True, "guard_filter_fn": guards_of_numbers}
    options = options if backend == "inductor" else {}
    return torch.compile(own, backend=backend, fullgraph=True, dynamic=False, options=options)


def guards_of_numbers(guards: Sequence[Any]) -> list[bool]:
    """Keep only the guards of plain values that a user may change, such as `objective.beta`.

    The guards of tensors and modules would take a fifth of a small network's step. They are not needed, because one
    function is compiled for each model and size of minibatch.
    """
    values = ("EQUALS_MATCH", "CONSTANT_MATCH")
    return [guard.guard_type in values and not guard.is_global for guard in guards]
