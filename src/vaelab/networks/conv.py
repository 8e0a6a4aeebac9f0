"""Convolutional networks."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

from torch import Tensor, nn

from vaelab.errors import check_count, whole_numbers
from vaelab.networks.base import Network, over_images
from vaelab.networks.mlp import Activation, Residual, activation_named

SMALLEST = 8  # smallest height and width of an image, in pixels
Layer = Callable[..., list[nn.Module]]


class Convolutional(Network):
    """Base class of the convolutional networks, which downsample an image as context, and upsample to one as event.

    In an encoder, 3x3 convolutions of stride 2 map the image to a vector. In a decoder, a linear layer maps the latent
    to a small map. Nearest-neighbour upsampling and 3x3 convolutions enlarge it to a map over the pixels of the event,
    without checkerboard artefacts (Odena, Dumoulin & Olah 2016). The maps have the event's halved sizes,
    rounded up (7, 14, 28), so odd sizes work. Images may have any number of channels.

    Args:
        context_shape: shape of one context; `(channels, height, width)` if it is an image.
        event_shape: shape of one event, likewise.
        channels: channels at each resolution, from the largest to the smallest: one entry for each halving.
        layer: makes the modules of a layer from `nn.Linear` or `nn.Conv2d` and the arguments of that class.

    Raises:
        ValueError: neither context nor event is an image, an image is smaller than 8x8, or `channels` is empty or has
            an entry below 1.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        channels: int | Sequence[int],
        layer: Layer,
    ) -> None:
        widths = whole_numbers("channels", channels)
        images = [tuple(shape) for shape in (context_shape, event_shape) if len(shape) == 3]
        if not images or any(min(shape[1:]) < SMALLEST for shape in images):
            raise ValueError(
                f"{type(self).__name__} expects images of at least {SMALLEST}x{SMALLEST} pixels, found a context of "
                f"shape {tuple(context_shape)} and an event of shape {tuple(event_shape)}: type network=mlp"
            )
        encode, smallest = _encoder(context_shape, event_shape, widths, layer)
        if len(event_shape) == 3:
            features_shape = (widths[0], *event_shape[1:])
            decode = _decoder(smallest[0], event_shape, widths, layer)
        else:
            features_shape, decode = (math.prod(smallest),), nn.Flatten(-3)
        super().__init__(context_shape, event_shape, features_shape)
        self.encode, self.decode = encode, decode

    def forward(self, context: Tensor) -> Tensor:
        if len(self.context_shape) == 3:
            return over_images(self.decode, over_images(self.encode, context))
        return over_images(self.decode, self.encode(context))


class ConvNet(Convolutional):
    """A convolutional network with an activation after each layer.

    Args:
        context_shape, event_shape, channels: as for `Convolutional`.
        activation: as for `MLP`.

    Raises:
        ValueError: as for `Convolutional`, or `torch.nn` has no such activation.

    Examples:
        >>> import torch
        >>> ConvNet((2,), (1, 28, 28), channels=(32, 64))(torch.zeros(5, 2)).shape
        torch.Size([5, 32, 28, 28])
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        channels: int | Sequence[int] = (32, 64),
        activation: Activation = "relu",
    ) -> None:
        make = activation_named(activation)
        super().__init__(
            context_shape, event_shape, channels, lambda kind, a, b, **options: [kind(a, b, **options), make()]
        )


class ResidualConvNet(Convolutional):
    """A convolutional network with residual blocks at each resolution: He, Zhang, Ren & Sun (2016).

    A block is `h <- act(h + W2 act(W1 h + b1) + b2)`, with 3x3 convolutions and without normalisation. W2 and b2 begin
    as zeros, so that with relu a deep network begins as a shallow one (Goyal et al. 2017, section 5.1).

    Args:
        context_shape, event_shape, channels: as for `Convolutional`.
        num_blocks: blocks after each convolution of `ConvNet`.
        activation: as for `MLP`.

    Raises:
        ValueError: as for `ConvNet`, or `num_blocks` is below 1.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        channels: int | Sequence[int] = (32, 64),
        num_blocks: int = 1,
        activation: Activation = "relu",
    ) -> None:
        check_count("num_blocks", num_blocks)
        make = activation_named(activation)

        def block(width: int) -> list[nn.Module]:
            first, last = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
            return [Residual(first, make(), last), make()]

        def layer(kind: type[nn.Linear | nn.Conv2d], a: int, b: int, **options: Any) -> list[nn.Module]:
            blocks = chain.from_iterable(block(b) for _ in range(num_blocks if kind is nn.Conv2d else 0))
            return [kind(a, b, **options), make(), *blocks]

        super().__init__(context_shape, event_shape, channels, layer)


def _encoder(
    context_shape: Sequence[int], event_shape: Sequence[int], widths: list[int], layer: Layer
) -> tuple[nn.Module, tuple[int, int, int]]:
    """Return the layers from the context to the smallest map, and the shape of that map."""
    if len(context_shape) == 3:
        sizes = pairwise([context_shape[0], *widths])
        convolutions = (layer(nn.Conv2d, a, b, kernel_size=3, stride=2, padding=1) for a, b in sizes)
        smallest = (widths[-1], *_halved(context_shape[1:], len(widths))[-1])
        return nn.Sequential(*chain.from_iterable(convolutions)), smallest
    smallest = (widths[-1], *_halved(event_shape[1:], len(widths))[-1])
    linear = layer(nn.Linear, math.prod(context_shape), math.prod(smallest))
    return nn.Sequential(*linear, nn.Unflatten(-1, smallest)), smallest


def _decoder(channels: int, event_shape: Sequence[int], widths: list[int], layer: Layer) -> nn.Module:
    """Return the layers from the smallest map to a map over the pixels of the event."""
    sizes = _halved(event_shape[1:], len(widths))[-2::-1]
    layers: list[nn.Module] = []
    for (a, b), size in zip(pairwise([channels, *reversed(widths)]), sizes, strict=True):
        layers += [nn.Upsample(size=size), *layer(nn.Conv2d, a, b, kernel_size=3, padding=1)]
    return nn.Sequential(*layers)


def _halved(size: Sequence[int], times: int) -> list[tuple[int, int]]:
    """Return the size of an image and its sizes after 1 to `times` halvings, rounded up."""
    sizes = [(size[0], size[1])]
    for _ in range(times):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes
