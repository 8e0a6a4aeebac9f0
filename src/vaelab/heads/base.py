"""Heads: the last layers of a `Conditional`, whose forward *is* a distribution.

A head receives features of shape `[*batch, in_features]` and returns a `torch.distributions.Distribution` with
`batch_shape = batch` and `event_shape` as asked for. It owns its final linear layers, and no other file knows the
formula of a likelihood. All log-probabilities are in nats.

To bring your own, derive from `Head`, take `(in_features, event_shape)` first, and say which pixels you model.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

Features = Float[Tensor, "*batch features"]


class Head(nn.Module):
    """Base class of the heads, and the place where a head says what it needs of the world.

    Attributes:
        pixels: what the elements of the event are when the head is a decoder's: `"binary"` ({0, 1}), `"unit"`
            (strictly inside (0, 1)) or `"levels"` (integers from 0); the data serves them so.
        measure: `"mass"` if `log_prob` is the log of a probability, `"density"` if of a density over the pixels.
    """

    pixels: ClassVar[str]
    measure: ClassVar[str]

    def __init__(self, in_features: int, event_shape: Sequence[int]) -> None:
        super().__init__()
        self.event_shape = tuple(event_shape)
        self.in_features = in_features

    def linear(self) -> nn.Linear:
        """A linear layer from the features to one number for each element of the event."""
        return nn.Linear(self.in_features, math.prod(self.event_shape))

    def as_event(self, flat: Tensor) -> Tensor:
        """Gives the last axis of `[*batch, prod(event_shape)]` the event's shape."""
        return flat if len(self.event_shape) == 1 else flat.unflatten(-1, self.event_shape)

    def independent(self, elements: td.Distribution) -> td.Independent:
        """One event of independent elements: `log_prob` sums over the event, and over nothing else."""
        return td.Independent(elements, len(self.event_shape), validate_args=False)

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Called by `Conditional.log_prob` in training, with what was predicted and what came."""

    def monitors(self) -> dict[str, Tensor]:
        """Scalars worth a curve, by name, since they were last asked for."""
        return {}
