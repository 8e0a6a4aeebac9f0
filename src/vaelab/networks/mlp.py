"""Multilayer perceptrons."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise

from torch import Tensor, nn
from torch.nn.modules import activation as activations

from vaelab.errors import whole_numbers
from vaelab.networks.base import Network

Activation = str | Callable[[], nn.Module]


class MLP(Network):
    """A multilayer perceptron, `h = act(W_n ... act(W_1 c + b_1) ... + b_n)`.

    The networks of appendix C of Kingma & Welling (2014) have one layer of tanh units. The context's axes are
    flattened: `[*batch, *context_shape] -> [*batch, F]`, where F is the last width.

    Args:
        context_shape: shape of one context.
        event_shape: shape of one event.
        hidden_features: the width of the only hidden layer, or a list of widths.
        activation: the name of a class of `torch.nn` in any case of letters (`"tanh"`, `"ReLU"`), or a callable.

    Raises:
        ValueError: `hidden_features` is empty or has a width below 1, or `torch.nn` has no such activation.

    Examples:
        >>> import torch
        >>> MLP((1, 28, 28), (2,), hidden_features=[500, 200])(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5, 200])
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        hidden_features: int | Sequence[int] = 500,
        activation: Activation = "tanh",
    ) -> None:
        widths = whole_numbers("hidden_features", hidden_features)
        super().__init__(context_shape, event_shape, (widths[-1],))
        make = activation_named(activation)
        sizes = [math.prod(context_shape), *widths]
        self.layers = nn.Sequential(*chain.from_iterable((nn.Linear(a, b), make()) for a, b in pairwise(sizes)))

    def forward(self, context: Tensor) -> Tensor:
        dims = len(self.context_shape)
        return self.layers(context.flatten(-dims) if dims > 1 else context)


def activation_named(activation: Activation) -> Callable[[], nn.Module]:
    """Return the class of `torch.nn` with this name, in any case of letters; return a callable `activation` itself."""
    if not isinstance(activation, str):
        return activation
    known = {name.lower(): getattr(activations, name) for name in activations.__all__}
    if activation.lower() not in known:
        raise ValueError(f"activation must name a class of torch.nn, such as tanh, relu or silu, found {activation!r}")
    return known[activation.lower()]
