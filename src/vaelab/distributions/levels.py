"""Distributions over grey levels that have a parameter for each level, or for each component of a mixture."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints


class Levels(td.Categorical):
    """`torch.distributions.Categorical` over the levels 0 .. L - 1, whose order counts: it has a mean and a variance.

    Samples are of the dtype of the logits, `[*batch, L]`. The mass of any other number is 0.

    Examples:
        >>> Levels(logits=torch.zeros(256)).mean
        tensor(127.5000)
    """

    @property
    def mean(self) -> Tensor:
        return (self.probs * self._levels()).sum(-1)

    @property
    def variance(self) -> Tensor:
        return (self.probs * (self._levels() - self.mean.unsqueeze(-1)).square()).sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return super().sample(torch.Size(sample_shape)).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        known = value.clamp(0, self.logits.shape[-1] - 1)
        return super().log_prob(known).masked_fill(value != known, -torch.inf)

    def _levels(self) -> Tensor:
        return torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)


class PixelMixture(td.Distribution):
    """A mixture for each pixel of an image, whose channels share the component and are else independent.

    `log p(x) = sum_hw log sum_k w_khw prod_c p_k(x_chw)`: one choice of k for all channels of a pixel.

    Args:
        logits: of the weights w, `[*batch, H, W, K]`.
        components: elementwise distributions p_k, of batch shape `[*batch, C, H, W, K]`.

    Examples:
        >>> p = PixelMixture(torch.zeros(5, 8, 8, 2), td.Poisson(torch.ones(5, 3, 8, 8, 2)))
        >>> p.log_prob(p.sample()).shape
        torch.Size([5])
    """

    arg_constraints: ClassVar = {}  # type: ignore[override]

    def __init__(self, logits: Tensor, components: td.Distribution) -> None:
        self.log_weights, self.components = logits.log_softmax(-1), components
        shape = components.batch_shape[:-1]
        super().__init__(shape[:-3], shape[-3:], validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return constraints.independent(self.components.support, 3)

    @property
    def mean(self) -> Tensor:
        return self._average(self.components.mean)

    @property
    def variance(self) -> Tensor:
        mean = self.components.mean
        spread = (mean - self._average(mean).unsqueeze(-1)).square()
        return self._average(self.components.variance + spread)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = torch.Size(sample_shape)
        component = td.Categorical(logits=self.log_weights, validate_args=False).sample(shape)
        draws = self.components.sample(shape)
        index = component.unsqueeze(-3).expand(draws.shape[:-1])  # the same in all channels
        return draws.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        of_components = self.components.log_prob(value.unsqueeze(-1)).sum(-4)
        return (self.log_weights + of_components).logsumexp(-1).sum((-2, -1))

    def _average(self, values: Tensor) -> Tensor:
        return (self.log_weights.exp().unsqueeze(-4) * values).sum(-1)
