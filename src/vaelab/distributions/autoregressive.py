"""Autoregressive layers of normalising flows: masked networks of our own, and the univariate maps of zuko."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from types import ModuleType
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.nn.functional import linear

from vaelab.errors import check_count, whole_numbers

SLOPE = 0.1  # the least slope of an affine map, and of a spline at its knots; the greatest is 1 / SLOPE


class AutoregressiveLayer(nn.Module):
    """An invertible layer `y_i = g(x_i; phi_i)`, where a masked network computes phi_i from the elements before x_i.

    It maps a context `[*batch, num_context]`, or None, to a transform of vectors `[*batch, size]`, whose inverse takes
    as many passes of the network as there are groups of elements. g is affine, or a rational-quadratic spline (Durkan
    et al. 2019). Its slope is limited, which keeps the inverse of a few layers accurate in float32, but not that of
    many steep ones. A new layer is the identity.

    Args:
        size: the number of elements.
        num_context: the size of the context, on which every phi_i depends too; 0 for no context.
        hidden_features: the width of the hidden layer of ReLU units of the network, or a list of widths.
        num_groups: the number of groups of elements; phi_i depends on the groups before that of x_i. None: each element
            is a group. With 2 groups, it is a coupling layer, which also transforms the first half.
        num_bins: the number of bins of the spline on [-5, 5], beyond which it is the identity. None: g is affine.
        backwards: whether the last element comes first.

    Raises:
        ValueError: a width is below 1, or `num_bins` is below 2.
    """

    def __init__(
        self,
        size: int,
        num_context: int,
        hidden_features: int | Sequence[int],
        num_groups: int | None = None,
        num_bins: int | None = None,
        backwards: bool = False,
    ) -> None:
        super().__init__()
        transforms = zuko().transforms
        self.autoregressive, self.dependent = transforms.AutoregressiveTransform, transforms.DependentTransform
        self.sizes, family = (1, 1), transforms.MonotonicAffineTransform
        if num_bins is not None:
            check_count("num_bins", num_bins, 2)
            self.sizes, family = (num_bins, num_bins, num_bins - 1), transforms.MonotonicRQSTransform
        self.univariate = partial(family, slope=SLOPE)
        self.num_passes = min(num_groups or size, size)
        group = torch.arange(size) * self.num_passes // size
        group = group.flip(0) if backwards else group
        self.network = masked_network(group, self.num_passes, num_context, hidden_features, sum(self.sizes))

    def forward(self, context: Tensor | None) -> Any:
        return self.autoregressive(partial(self.given, context), self.num_passes)

    def given(self, context: Tensor | None, x: Tensor) -> Any:
        """Return the map of each element, given those before it in x."""
        seen = x if context is None else torch.cat((x, context.expand(*x.shape[:-1], -1)), -1)
        parameters = self.network(seen).unflatten(-1, (x.shape[-1], -1)).split(self.sizes, -1)
        if len(self.sizes) == 2:  # of an affine map, which takes its two numbers without an axis
            parameters = [parameter.squeeze(-1) for parameter in parameters]
        return self.dependent(self.univariate(*parameters), 1)


class MaskedLinear(nn.Linear):
    """A linear layer in which each output sees only the inputs whose degree is at most its own."""

    mask: Tensor

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        super().__init__(len(inputs), len(outputs))
        self.register_buffer("mask", outputs.unsqueeze(1) >= inputs, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.mask * self.weight, self.bias)


def masked_network(
    group: Tensor, num_groups: int, num_context: int, hidden_features: int | Sequence[int], numbers: int
) -> nn.Sequential:
    """Make a network with `numbers` outputs for each element, which see the elements of smaller groups: MADE.

    Germain et al. (2015). Its input is the elements and then the context, which all outputs see. Its last layer is 0.
    """
    degrees = [torch.cat((group + 1, torch.zeros(num_context, dtype=torch.long)))]
    for width in whole_numbers("hidden_features", hidden_features):
        degrees.append(torch.arange(width) * num_groups // width)
    last = MaskedLinear(degrees[-1], group.repeat_interleave(numbers))
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    hidden = [layer for pair in pairwise(degrees) for layer in (MaskedLinear(*pair), nn.ReLU())]
    return nn.Sequential(*hidden, last)


def autoregressive_layers(
    size: int, num_context: int, num_transforms: int, hidden_features: int | Sequence[int], **options: Any
) -> nn.ModuleList:
    """Make layers that take the elements forwards and backwards in turn, with options of `AutoregressiveLayer`."""
    check_count("num_transforms", num_transforms)
    directions = [number % 2 == 1 for number in range(num_transforms)]
    return nn.ModuleList(
        AutoregressiveLayer(size, num_context, hidden_features, **options, backwards=backwards)
        for backwards in directions
    )


def zuko() -> ModuleType:
    """Import zuko, and undo what this changes in `torch.distributions` for the whole process.

    zuko switches off the check of arguments, and removes the error of classes that declare no constraints.
    """
    places = [(td.Distribution, "_validate_args"), (td.Distribution, "arg_constraints")]
    places += [(td.transforms._InverseTransform, "__name__")]
    before = [getattr(owner, name) for owner, name in places]
    import zuko

    for (owner, name), value in zip(places, before, strict=True):
        setattr(owner, name, value)
    return zuko
