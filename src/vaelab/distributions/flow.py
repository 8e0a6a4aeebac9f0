"""Normalising flows, and their layers from zuko."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.distributions import constraints

from vaelab.errors import check_count, whole_numbers
from vaelab.randomness import standard_normal


class Flow(td.Distribution):
    """The distribution of `z = loc + scale f(e)`, where e ~ N(0, I) and f is a chain of invertible layers.

    `log q(z) = log N(e; 0, I) - log |det df/de| - sum_j log scale_j`: Rezende & Mohamed (2015), section 3.1. A flow has
    no closed form of its mean. In `rsample`, each of several stacked models draws the sample that it would draw alone.

    Args:
        loc, scale: `[*batch, d]`.
        layers: the layers of f, first to last, such as `autoregressive_layers` makes for a context; transforms of
            vectors of size d.
    """

    has_rsample = True
    support = constraints.real_vector  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def __init__(self, loc: Tensor, scale: Tensor, layers: Sequence[Any]) -> None:
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)
        self.loc, self.scale, self.layers = loc, scale, layers

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z, and return z and log q(z) in nats, by one pass through the layers."""
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc)
        u, log_density = noise, self._log_density_of(noise)
        for layer in self.layers:
            u, log_det = layer.call_and_ladj(u)
            log_density = log_density - log_det
        return self.loc + self.scale * u, log_density

    def log_prob(self, value: Tensor) -> Tensor:
        u = (value - self.loc) / self.scale
        log_det: Tensor | float = 0.0
        for layer in reversed(self.layers):
            u, own = layer.inv.call_and_ladj(u)
            log_det = log_det + own
        return self._log_density_of(u) + log_det

    def _log_density_of(self, noise: Tensor) -> Tensor:
        """Return log N(e; 0, I) - sum_j log scale_j."""
        return -0.5 * (noise.square() + math.log(2 * math.pi)).sum(-1) - self.scale.log().sum(-1)


def autoregressive_layers(
    size: int,
    num_context: int,
    num_transforms: int,
    hidden_features: int | Sequence[int],
    num_groups: int | None = None,
    num_bins: int | None = None,
) -> nn.ModuleList:
    """Make layers `y_i = g(x_i; phi_i)`, where a masked network computes phi_i from the elements before x_i.

    Each maps a context `[*batch, num_context]`, or None, to a transform of vectors `[*batch, size]`, whose inverse
    takes as many passes of the network as there are groups of elements. g is affine, or a rational-quadratic spline.
    Every other layer takes the elements in reverse order. At first, each layer is the identity.

    Args:
        size: the number of elements.
        num_context: the size of the context, on which every phi_i depends too; 0 for no context.
        num_transforms: the number of layers.
        hidden_features: the width of the hidden layer of each network, or a list of widths. Its units are ReLU, and its
            masks those of MADE (Germain et al. 2015).
        num_groups: the number of groups of elements; phi_i depends on the groups before that of x_i. None: each
            element is a group. With 2 groups, a layer is a coupling layer, which also transforms the first half.
        num_bins: the number of bins of the spline on [-5, 5], beyond which it is the identity. None: g is affine.

    Raises:
        ValueError: `num_transforms` or a width is below 1, or `num_bins` is below 2.
    """
    check_count("num_transforms", num_transforms)
    widths = whole_numbers("hidden_features", hidden_features)
    library, univariate = zuko(), {}
    if num_bins is not None:
        check_count("num_bins", num_bins, 2)
        shapes = [(num_bins,), (num_bins,), (num_bins - 1,)]
        univariate = {"univariate": library.transforms.MonotonicRQSTransform, "shapes": shapes}
    make, order = library.flows.autoregressive.MaskedAutoregressiveTransform, torch.arange(size)
    orders = (order, order.flip(0))
    layers = nn.ModuleList(
        make(size, num_context, num_groups, orders[number % 2], hidden_features=widths, **univariate)
        for number in range(num_transforms)
    )
    for layer in layers:
        last: Any = layer.hyper[-1] if hasattr(layer, "hyper") else layer.phi  # pyright: ignore[reportIndexIssue]
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return layers


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
