"""The contract of a network: it maps a context to features, and makes the last layers that a head asks for."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

Per = Literal["element", "pixel", "vector"]


class Network(nn.Module):
    """Base class of the networks. A network maps a context to features, and makes the last layers that heads ask for.

    The features of a context are a vector, `[*batch, F]`, or a map over the pixels of the event, `[*batch, F, H, W]`.
    `*batch` stands for any number of leading dimensions. A network knows no likelihood.

    Args:
        context_shape: shape of one context.
        event_shape: shape of one event, such as `(latent_dim,)` or `(channels, height, width)`.
        features_shape: shape of the features of one context: `(F,)` or `(F, H, W)`.
    """

    def __init__(self, context_shape: Sequence[int], event_shape: Sequence[int], features_shape: Sequence[int]) -> None:
        super().__init__()
        self.context_shape = tuple(context_shape)
        self.event_shape = tuple(event_shape)
        self.features_shape = tuple(features_shape)

    def output_layer(self, per: Per = "element", numbers: int | None = None) -> nn.Module:
        """Make a linear layer from this network's features to numbers about one event.

        It is an `nn.Conv2d` if the features are a map, unless `per` is `vector`; else an `nn.Linear`. The caller owns
        its parameters.

        Args:
            per: what the numbers belong to; see the table.
            numbers: how many numbers each of these gets. If it is None, each gets one, and the last axis is absent.

        Returns:
            A module whose output has this shape:

            | `per` | shape |
            |---|---|
            | `element`: each element of the event | `[*batch, *event_shape, numbers]` |
            | `pixel`: each pixel of an image, all channels together | `[*batch, H, W, numbers]` |
            | `vector`: the event as a whole | `[*batch, numbers]` |

        Raises:
            ValueError: `per` is unknown; `per` is `pixel`, but the event is not an image; or `per` is `vector`, but
                `numbers` is None.

        Examples:
            >>> import torch
            >>> from vaelab.networks import MLP
            >>> network = MLP((2,), (1, 28, 28))
            >>> network.output_layer("pixel", 3)(network(torch.zeros(5, 2))).shape
            torch.Size([5, 28, 28, 3])
        """
        if per not in get_args(Per):
            raise ValueError(f"per must be one of {', '.join(get_args(Per))}, found {per!r}")
        if per == "pixel" and len(self.event_shape) != 3:
            raise ValueError(f"numbers per pixel need an image as event, found an event of shape {self.event_shape}")
        features, is_map = self.features_shape[0], len(self.features_shape) > 1
        if per == "vector":
            if numbers is None:
                raise ValueError("output_layer('vector') needs the size of the vector: type output_layer('vector', 10)")
            pool = [MeanOverPixels()] if is_map else []
            return nn.Sequential(*pool, nn.Linear(features, numbers))
        if is_map:
            return FromMap(features, None if per == "pixel" else self.event_shape[0], numbers)
        shape = self.event_shape[1:] if per == "pixel" else self.event_shape
        return FromVector(features, (*shape, numbers) if numbers else shape)


class FromVector(nn.Module):
    """A linear layer from `[*batch, F]` to `[*batch, *shape]`."""

    def __init__(self, features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear = nn.Linear(features, math.prod(shape))
        self.shape = shape

    def forward(self, features: Tensor) -> Tensor:
        flat = self.linear(features)
        return flat if len(self.shape) == 1 else flat.unflatten(-1, self.shape)


class FromMap(nn.Module):
    """A 3x3 convolution from `[*batch, F, H, W]` to `[*batch, channels, H, W, numbers]`; a None size drops its axis."""

    def __init__(self, features: int, channels: int | None, numbers: int | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, (channels or 1) * (numbers or 1), kernel_size=3, padding=1)
        self.channels, self.numbers = channels, numbers

    def forward(self, features: Tensor) -> Tensor:
        maps = over_images(self.conv, features)
        if self.numbers is None:
            return maps if self.channels else maps.squeeze(-3)
        if self.channels:
            maps = maps.unflatten(-3, (self.channels, self.numbers))
        return maps.movedim(-3, -1)


class MeanOverPixels(nn.Module):
    """The mean of `[*batch, F, H, W]` over its pixels: `[*batch, F]`."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((-2, -1))


def over_images(module: nn.Module, images: Tensor) -> Tensor:
    """Apply a module that expects `[batch, C, H, W]` to `[*batch, C, H, W]`."""
    mapped = module(images.reshape(-1, *images.shape[-3:]))
    return mapped.reshape(*images.shape[:-3], *mapped.shape[1:])


class Chain(Network):
    """Two networks in a row: `first` maps the context to a vector, which `second` maps to the features."""

    def __init__(self, first: Network, second: Network) -> None:
        super().__init__(first.context_shape, first.event_shape, second.features_shape)
        self.first = first
        self.second = second

    def forward(self, context: Tensor) -> Tensor:
        return self.second(self.first(context))
