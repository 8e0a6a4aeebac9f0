"""Distributions side by side: the components of a mixture whose families may differ."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints


class Stacked(td.Distribution):
    """K distributions of equal shapes and any families as one, with a last batch axis of size K.

    It can be the components of a `torch.distributions.MixtureSameFamily` or of a `PixelMixture`. Outside the support of
    one of them, the density of that one is 0.

    Args:
        components: each of batch shape `[*batch]`, and all over the same kind of values, discrete or not.

    Examples:
        >>> p = Stacked([td.Normal(torch.zeros(5), 1.0), td.Laplace(torch.zeros(5), 1.0)])
        >>> td.MixtureSameFamily(td.Categorical(torch.ones(5, 2)), p).log_prob(torch.zeros(3, 5)).shape
        torch.Size([3, 5])
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]

    def __init__(self, components: Sequence[td.Distribution]) -> None:
        self.components = list(components)
        first = self.components[0]
        shape = torch.Size([*first.batch_shape, len(self.components)])
        super().__init__(shape, first.event_shape, validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        supports: list[Any] = [component.support for component in self.components]
        return supports[0] if len(set(map(str, supports))) == 1 else AnyOf(supports)

    @property
    def mean(self) -> Tensor:
        return self._stack(lambda component: component.mean)

    @property
    def variance(self) -> Tensor:
        return self._stack(lambda component: component.variance)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._stack(lambda component: component.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-densities of all components, `[*batch, K]`, at values whose axis K has size 1."""
        value = value.squeeze(-1 - len(self.event_shape))

        return torch.stack([_log_prob_in_support(component, value) for component in self.components], -1)

    def _stack(self, function: Callable[[td.Distribution], Tensor]) -> Tensor:
        return torch.stack([function(component) for component in self.components], -1 - len(self.event_shape))


def _log_prob_in_support(p: td.Distribution, value: Tensor) -> Tensor:
    support: Any = p.support
    return p.log_prob(value).masked_fill(~support.check(value), -torch.inf)


class AnyOf(constraints.Constraint):
    """Values that lie in at least one of several supports."""

    def __init__(self, supports: Sequence[constraints.Constraint]) -> None:
        self.supports = supports
        self.is_discrete, self.event_dim = supports[0].is_discrete, supports[0].event_dim

    def check(self, value: Tensor) -> Tensor:
        return torch.stack([support.check(value) for support in self.supports]).any(0)

    def __repr__(self) -> str:
        return " or ".join(str(support) for support in self.supports)


class PointMass(td.Distribution):
    """All mass at one count: `P(x) = 1` if x = `at`, else 0.

    In a mixture with a distribution over counts it inflates this count: `P(0) = pi + (1 - pi) p(0)` for `at` 0.

    Args:
        at: the counts, 0 or above, as floats.

    Examples:
        >>> PointMass(torch.zeros(())).log_prob(torch.tensor([0.0, 1.0]))
        tensor([0., -inf])
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]
    support = constraints.nonnegative_integer  # type: ignore[override]

    def __init__(self, at: Tensor) -> None:
        self.at = at
        super().__init__(at.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.at

    @property
    def variance(self) -> Tensor:
        return torch.zeros_like(self.at)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.at.expand(self._extended_shape(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.zeros_like(value + self.at).masked_fill(value != self.at, -torch.inf)
