"""The joint distribution of variables that are drawn one after another."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions.joint import sample_and_log_prob


class Ancestral(td.Distribution):
    """The distribution of (h_1, ..., h_L): `p(h_1) p(h_2|h_1) ... p(h_L|h_(L-1))`, vectors drawn in this order.

    It is reparametrised if p(h_1) is. It has no `mean`: that of h_2 is an integral over h_1. Unlike most distributions,
    it computes `log_prob` by calls of the functions that it is given, and they may be networks.

    Args:
        first: p(h_1), of batch shape `[*batch]`.
        following: maps h_1 to p(h_2|h_1), h_2 to p(h_3|h_2), and so on.
        sizes: numbers of dimensions of h_1, ..., h_L.
        reverse: whether a point is (h_L, ..., h_1), in place of (h_1, ..., h_L).

    Examples:
        >>> normal = lambda loc: td.Independent(td.Normal(loc, 1.0), 1)
        >>> p = Ancestral(normal(torch.zeros(5, 2)), [lambda h: normal(h.sum(-1, keepdim=True))], (2, 1))
        >>> p.sample((3,)).shape, p.log_prob(torch.zeros(3)).shape
        (torch.Size([3, 5, 3]), torch.Size([5]))
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]

    def __init__(
        self,
        first: td.Distribution,
        following: Sequence[Callable[[Tensor], td.Distribution]],
        sizes: Sequence[int],
        reverse: bool = False,
    ) -> None:
        super().__init__(first.batch_shape, torch.Size([sum(sizes)]), validate_args=False)
        self.first, self.following, self.sizes = first, following, list(sizes)
        self.step = -1 if reverse else 1  # from a layer of a point to the one that is drawn next
        self.has_rsample = first.has_rsample
        self.has_slow_density = getattr(first, "has_slow_density", False)

    @property
    def support(self) -> Any:
        """That of the first layer, because all layers are of one kind."""
        return self.first.support

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z, and return z and its log density in nats."""
        h, log_prob = sample_and_log_prob(self.first, sample_shape)
        layers = [h]
        for conditional in self.following:
            h, log_density = sample_and_log_prob(conditional(h))
            layers.append(h)
            log_prob = log_prob + log_density
        return torch.cat(layers[:: self.step], -1), log_prob

    def log_prob(self, value: Tensor) -> Tensor:
        given, *rest = value.split(self.sizes[:: self.step], -1)[:: self.step]
        log_prob = self.first.log_prob(given)
        for conditional, h in zip(self.following, rest, strict=True):
            log_prob = log_prob + conditional(given).log_prob(h)
            given = h
        return log_prob
