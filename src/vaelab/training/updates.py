"""The updates of common optimisers, written out so that `torch.compile` can fuse them with the gradient.

The formulas, names of states and hyperparameters are those of `torch.optim`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

State = Mapping[str, Tensor]  # what an optimiser remembers of one parameter
Group = Mapping[str, Any]  # hyperparameters of some of an optimiser's parameters


class Update:
    """Updates one parameter by its gradient g."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.weight_decay = 0.0 if group.get("decoupled_weight_decay") else group["weight_decay"]

    def states(self) -> list[str]:
        """Return the names of the states that `move` changes."""
        return []

    def factors(self, rate: Tensor, step: Tensor | None) -> tuple[Tensor, ...]:
        """Return the numbers that change from step to step.

        They are computed outside of the compiled function, which would compute them anew for each weight.

        Args:
            rate: the learning rate, in float64.
            step: the number of optimiser steps, with this one; None if the optimiser does not count.
        """
        return (rate.float(),)

    def __call__(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        """Change the weight and the states in place."""
        g = -g if self.group["maximize"] else g
        self.move(weight, g + self.weight_decay * weight if self.weight_decay else g, state, factors)

    def move(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        """Change the weight and the states in place, by a gradient to which weight decay has been added."""
        raise NotImplementedError


class AdamUpdate(Update):
    """Adam, and AdamW, whose weight decay shrinks the weight itself."""

    def states(self) -> list[str]:
        return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if self.group["amsgrad"] else [])]

    def factors(self, rate: Tensor, step: Tensor | None) -> tuple[Tensor, ...]:
        assert step is not None
        bias, bias_of_squares = (1 - beta ** step.double() for beta in self.group["betas"])
        return (rate / bias).float(), bias_of_squares.rsqrt().float(), rate.float()

    def move(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        size, scale, rate = factors
        beta, beta_of_squares = self.group["betas"]
        if self.group["decoupled_weight_decay"]:
            weight.mul_(1 - rate * self.group["weight_decay"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(g, 1 - beta)
        square.mul_(beta_of_squares).addcmul_(g, g, value=1 - beta_of_squares)
        if self.group["amsgrad"]:
            square = state["max_exp_avg_sq"].copy_(torch.maximum(state["max_exp_avg_sq"], square))
        weight.sub_(size * mean / (square.sqrt() * scale + self.group["eps"]))


class AdagradUpdate(Update):
    """Adagrad."""

    def states(self) -> list[str]:
        return ["sum"]

    def factors(self, rate: Tensor, step: Tensor | None) -> tuple[Tensor, ...]:
        assert step is not None
        return ((rate / (1 + (step.double() - 1) * self.group["lr_decay"])).float(),)

    def move(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        state["sum"].addcmul_(g, g)
        weight.sub_(factors[0] * g / (state["sum"].sqrt() + self.group["eps"]))


class RMSpropUpdate(Update):
    """RMSprop, also centered."""

    def states(self) -> list[str]:
        averages = ["square_avg", *(["grad_avg"] if self.group["centered"] else [])]
        return [*averages, *(["momentum_buffer"] if self.group["momentum"] else [])]

    def move(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        alpha, square = self.group["alpha"], state["square_avg"]
        square.mul_(alpha).addcmul_(g, g, value=1 - alpha)
        if self.group["centered"]:
            square = square - state["grad_avg"].lerp_(g, 1 - alpha).square()
        g = g / (square.sqrt() + self.group["eps"])
        if self.group["momentum"]:
            g = state["momentum_buffer"].mul_(self.group["momentum"]).add_(g)
        weight.sub_(factors[0] * g)


class SGDUpdate(Update):
    """Gradient descent, also with momentum."""

    def states(self) -> list[str]:
        return ["momentum_buffer"] if self.group["momentum"] else []

    def move(self, weight: Tensor, g: Tensor, state: State, factors: Sequence[Tensor]) -> None:
        if momentum := self.group["momentum"]:
            buffer = state["momentum_buffer"].mul_(momentum).add_(g, alpha=1 - self.group["dampening"])
            g = g + momentum * buffer if self.group["nesterov"] else buffer
        weight.sub_(factors[0] * g)


# what vaelab can compile, by the exact class of the optimiser, because a subclass may do anything
UPDATES: dict[type[Optimizer], type[Update]] = {
    Adam: AdamUpdate,
    AdamW: AdamUpdate,
    Adagrad: AdagradUpdate,
    RMSprop: RMSpropUpdate,
    SGD: SGDUpdate,
}


def hyperparameters(group: Group) -> dict[str, Any]:
    """Return the hyperparameters of a group, without its learning rate, and without those that change no result."""
    return {name: value for name, value in group.items() if name not in ("params", "lr", "capturable")}
