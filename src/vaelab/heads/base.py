"""The contract of a head: the last layers of a `Conditional`, whose forward *is* a distribution.

A head receives the features of a network and returns a `torch.distributions.Distribution` with `batch_shape = batch`
and the event's shape as `event_shape`. It owns its last layers, which the network makes for it, and no other file knows
the formula of a likelihood. All log-probabilities are in nats.

To bring your own, derive from `Head`, take the network first, and say which pixels you model.
"""

from typing import Any, ClassVar

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

Features = Float[Tensor, "*features"]


class Head(nn.Module):
    """Base class of the heads, where a head says what it needs from the world.

    Args:
        network: the network behind the head; `network.output_layer(...)` makes the head's layers. It is not kept.

    Attributes:
        pixels: what the elements of the event are when the head is a decoder's: `"binary"` ({0, 1}), `"unit"`
            (strictly inside (0, 1)) or `"levels"` (integers from 0). The data serves them so.
        measure: `"mass"` if `log_prob` is the log of a probability, `"density"` if of a density over the pixels.
        event_shape: shape of one event.
    """

    pixels: ClassVar[str]
    measure: ClassVar[str]

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.event_shape: tuple[int, ...] = tuple(network.event_shape)

    def independent(self, elements: td.Distribution) -> td.Independent:
        """Return one event of independent elements: `log_prob` sums over the event, and over nothing else."""
        return td.Independent(elements, len(self.event_shape), validate_args=False)

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Take note of a prediction and of what came; `Conditional.log_prob` calls this in training."""

    def monitors(self) -> dict[str, Tensor]:
        """Return scalars worth a curve, by name, gathered since the last call."""
        return {}
