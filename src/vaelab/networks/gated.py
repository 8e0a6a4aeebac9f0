"""Networks of gated layers, `h = (A x + a) * sigmoid(B x + b)`: Dauphin, Fan, Auli & Grangier (2017)."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from vaelab.networks.conv import Convolutional
from vaelab.networks.mlp import Dense


def gated(kind: type[nn.Linear | nn.Conv2d], inputs: int, outputs: int, **options: Any) -> list[nn.Module]:
    """Make a gated layer: a linear one with twice the outputs, and the gate.

    The weights A are drawn from N(0, 4 / n), where n is the number of inputs of one output, because the gates begin
    near 1/2. The size of h then hardly changes from layer to layer, and deep networks train.
    """
    layer = kind(inputs, 2 * outputs, **options)
    nn.init.normal_(layer.weight[:outputs].detach(), std=2 / math.sqrt(layer.weight[0].numel()))
    return [layer, nn.GLU(-1 if kind is nn.Linear else -3)]


class GatedMLP(Dense):
    """A network of fully connected gated layers, as Tomczak & Welling (2018) use two of, with 300 units each.

    Args:
        context_shape, event_shape, hidden_features: as for `Dense`.

    Raises:
        ValueError: `hidden_features` is empty or has a width below 1.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        hidden_features: int | Sequence[int] = (300, 300),
    ) -> None:
        super().__init__(context_shape, event_shape, hidden_features, lambda a, b: gated(nn.Linear, a, b))


class GatedConvNet(Convolutional):
    """A convolutional network of gated layers.

    Args:
        context_shape, event_shape, channels: as for `Convolutional`.

    Raises:
        ValueError: as for `Convolutional`.
    """

    def __init__(
        self, context_shape: Sequence[int], event_shape: Sequence[int], channels: int | Sequence[int] = (32, 64)
    ) -> None:
        super().__init__(context_shape, event_shape, channels, gated)
