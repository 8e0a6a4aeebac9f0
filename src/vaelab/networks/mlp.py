"""Multilayer perceptrons."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vaelab.networks.base import Trunk

Activation = str | Callable[[], nn.Module]


class MLP(Trunk):
    """Fully connected layers, each followed by the activation: `h = act(W_n ... act(W_1 c + b_1) ... + b_n)`.

    The paper's networks (appendix C) have one layer of tanh units. The context's axes are flattened; leading axes, any
    number of them, are kept: `[*batch, *context_shape] -> [*batch, out_features]`.

    Args:
        context_shape: shape of one context.
        hidden_features: the width of the one hidden layer, or a list of widths.
        activation: a class of `torch.nn` by name in any case (`"tanh"`, `"ReLU"`), or anything that makes a module.

    Raises:
        ValueError: no layer, a width below 1, or an activation that `torch.nn` does not have.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        hidden_features: int | Sequence[int] = 500,
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        widths = [*hidden_features] if isinstance(hidden_features, Sequence) else [hidden_features]
        if not widths or not all(isinstance(width, int) and width >= 1 for width in widths):
            raise ValueError(f"hidden_features must be one width or more, each at least 1, found {hidden_features}")
        make = activation_named(activation) if isinstance(activation, str) else activation
        sizes = [math.prod(context_shape), *widths]
        layers = [[nn.Linear(a, b), make()] for a, b in pairwise(sizes)]
        self.context_dims = len(context_shape)
        self.out_features = widths[-1]
        self.layers = nn.Sequential(*[module for layer in layers for module in layer])

    def forward(self, context: Tensor) -> Tensor:
        return self.layers(context.flatten(-self.context_dims) if self.context_dims > 1 else context)


def activation_named(name: str) -> Callable[[], nn.Module]:
    """The activation class of `torch.nn` whose name is `name`, in any case.

    Raises:
        ValueError: `torch.nn` has no such activation.
    """
    module = torch.nn.modules.activation
    known = {n.lower(): getattr(module, n) for n in module.__all__}
    if name.lower() not in known:
        raise ValueError(f"activation must be a class of torch.nn such as tanh, relu or silu, found {name!r}")
    return known[name.lower()]
