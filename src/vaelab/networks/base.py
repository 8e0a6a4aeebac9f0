"""The contract of a network: it maps a context to features, and makes the last layers that a head asks for."""

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

Per = Literal["element", "pixel", "vector"]


class Network(nn.Module):
    """Base class of the networks: map a context to features, and make the last layers that heads ask for.

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

    def output_layer(self, per: Per = "element", numbers: int = 1) -> nn.Module:
        """Make a linear layer from this network's features to numbers about one event.

        The layer is an `nn.Linear` if the features are a vector, and an `nn.Conv2d` if they are a map. The caller owns
        its parameters.

        Args:
            per: what the numbers belong to; see the table.
            numbers: how many numbers each of these gets.

        Returns:
            A module whose output has this shape:

            | `per` | shape |
            |---|---|
            | `element`: each element of the event | `[*batch, *event_shape]`, and a last axis `numbers` if above 1 |
            | `pixel`: each pixel of an image, all channels together | `[*batch, H, W]`, and the same last axis |
            | `vector`: the event as a whole | `[*batch, numbers]` |

        Raises:
            ValueError: `per="pixel"`, but the event is not an image.

        Examples:
            >>> import torch
            >>> from vaelab.networks import MLP
            >>> network = MLP((2,), (1, 28, 28))
            >>> network.output_layer("pixel", 3)(network(torch.zeros(5, 2))).shape
            torch.Size([5, 28, 28, 3])
        """
        if per == "pixel" and len(self.event_shape) != 3:
            raise ValueError(f"numbers per pixel need an image as event, found an event of shape {self.event_shape}")
        if per == "vector":
            shape: tuple[int, ...] = (numbers,)
        else:
            shape = self.event_shape[1:] if per == "pixel" else self.event_shape
            shape += (numbers,) if numbers > 1 else ()
        if len(self.features_shape) == 1:
            return FromVector(self.features_shape[0], shape)
        if per == "vector":
            return nn.Sequential(MeanOverPixels(), nn.Linear(self.features_shape[0], numbers))
        return FromMap(self.features_shape[0], None if per == "pixel" else self.event_shape[0], numbers)


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
    """A 3x3 convolution from `[*batch, F, H, W]` to `[*batch, channels, H, W, numbers]`.

    Args:
        features: F.
        channels: channels of the event; None for no channel axis, because all channels share the numbers.
        numbers: numbers per element or pixel; a single number gets no axis.
    """

    def __init__(self, features: int, channels: int | None, numbers: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(features, (channels or 1) * numbers, kernel_size=3, padding=1)
        self.channels, self.numbers = channels, numbers

    def forward(self, features: Tensor) -> Tensor:
        maps = over_images(self.conv, features)
        if self.numbers == 1:
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
    if images.dim() == 4:
        return module(images)
    batch = images.shape[:-3]
    mapped = module(images.reshape(-1, *images.shape[-3:]))
    return mapped.unflatten(0, batch) if batch else mapped.squeeze(0)


class Chain(Network):
    """Two networks in a row: `first` maps the context to a vector, which `second` maps to the features.

    Raises:
        ValueError: `first` gives a map instead of a vector.
    """

    def __init__(self, first: Network, second: Network) -> None:
        if len(first.features_shape) != 1:
            raise ValueError(f"Chain expects a first network that gives a vector, found {first.features_shape}")
        super().__init__(first.context_shape, first.event_shape, second.features_shape)
        self.first = first
        self.second = second

    def forward(self, context: Tensor) -> Tensor:
        return self.second(self.first(context))
