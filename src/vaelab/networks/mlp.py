"""Networks of fully connected layers."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import activation as activations

from vaelab.errors import whole_numbers
from vaelab.networks.base import Network

Activation = str | Callable[[], nn.Module]
Normalization = str | Callable[[int], nn.Module] | None


class Dense(Network):
    """Base class of the networks of fully connected layers.

    The context's axes are flattened: `[*batch, *context_shape] -> [*batch, F]`, where F is the last width.

    Args:
        context_shape: shape of one context.
        event_shape: shape of one event.
        hidden_features: the width of the only hidden layer, or a list of widths.
        layer: makes the modules of a layer from the numbers of its inputs and outputs.

    Raises:
        ValueError: `hidden_features` is empty or has a width below 1.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        hidden_features: int | Sequence[int],
        layer: Callable[[int, int], Iterable[nn.Module]],
    ) -> None:
        widths = whole_numbers("hidden_features", hidden_features)
        super().__init__(context_shape, event_shape, (widths[-1],))
        sizes = [math.prod(context_shape), *widths]
        self.layers = nn.Sequential(*chain.from_iterable(layer(a, b) for a, b in pairwise(sizes)))

    def forward(self, context: Tensor) -> Tensor:
        dims = len(self.context_shape)
        return self.layers(context.flatten(-dims) if dims > 1 else context)


class MLP(Dense):
    """A multilayer perceptron, `h = act(W_n ... act(W_1 c + b_1) ... + b_n)`.

    The networks of appendix C of Kingma & Welling (2014) have one layer of tanh units.

    Args:
        context_shape, event_shape, hidden_features: as for `Dense`.
        activation: the name of a class of `torch.nn` in any case of letters (`"tanh"`, `"ReLU"`), or a callable.
        normalization: what stands before each activation: `"LayerNorm"` (Ba, Kiros & Hinton 2016), `"RMSNorm"`, or a
            callable that makes a module from the width; None for nothing.
        residual: whether a layer adds its inputs to its outputs, where their numbers are equal (He et al. 2016).

    Raises:
        ValueError: `hidden_features` is empty or has a width below 1, or a name is unknown.

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
        normalization: Normalization = None,
        residual: bool | None = None,
    ) -> None:
        make, normalize = activation_named(activation), normalization_named(normalization)

        def layer(inputs: int, outputs: int) -> list[nn.Module]:
            layers = [nn.Linear(inputs, outputs), *([normalize(outputs)] if normalize else []), make()]
            return [Residual(*layers)] if residual and inputs == outputs else layers

        super().__init__(context_shape, event_shape, hidden_features, layer)


class Residual(nn.Sequential):
    """The modules in a row, whose result is added to what the first one gets."""

    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


def activation_named(activation: Activation) -> Callable[[], nn.Module]:
    """Return the class of `torch.nn` with this name, in any case of letters; return a callable `activation` itself."""
    known = [getattr(activations, name) for name in activations.__all__]
    return _named("activation", activation, known, "tanh, relu or silu")


def normalization_named(normalization: Normalization) -> Callable[[int], nn.Module] | None:
    """Return the class with this name, in any case of letters; return a callable or None itself."""
    return _named("normalization", normalization, [nn.LayerNorm, nn.RMSNorm], "LayerNorm or RMSNorm")


def _named(argument: str, given: Any, known: Iterable[type[nn.Module]], examples: str) -> Any:
    if not isinstance(given, str):
        return given
    by_name = {kind.__name__.lower(): kind for kind in known}
    if given.lower() not in by_name:
        raise ValueError(f"{argument} must name a class of torch.nn, such as {examples}, found {given!r}")
    return by_name[given.lower()]
