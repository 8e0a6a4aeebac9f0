"""The contract of a head: it turns the features of a network into a distribution.

The forward of a head returns a `torch.distributions.Distribution` with the features' leading dimensions as
`batch_shape` and the event's shape as `event_shape`. The head owns the last layers, which the network makes for it, and
only the head knows the formula of the likelihood. Log-probabilities are in nats.

To write your own, derive from `Head`, take the network as first argument, and set `pixels` and `measure`.
"""

from typing import Any, ClassVar

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

Features = Float[Tensor, "*features"]


class Head(nn.Module):
    """Base class of the heads.

    Args:
        network: the network before the head; `network.output_layer(...)` makes the head's layers. The head stores no
            reference to it.

    Attributes:
        pixels: the pixels that the head models as a decoder's: `"binary"` ({0, 1}), `"unit"` (strictly inside (0, 1))
            or `"levels"` (integers from 0). The data module serves such pixels.
        measure: `"mass"` if `log_prob` is the log of a probability, `"density"` if of a density over the pixels.
        event_shape: shape of one event.

    Examples:
        >>> import torch
        >>> from vaelab.heads import DiagonalGaussian
        >>> from vaelab.networks import MLP
        >>> network = MLP((1, 28, 28), (2,))
        >>> q = DiagonalGaussian(network)(network(torch.rand(5, 1, 28, 28)))
        >>> q.batch_shape, q.event_shape
        (torch.Size([5]), torch.Size([2]))
    """

    pixels: ClassVar[str]
    measure: ClassVar[str]

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.event_shape: tuple[int, ...] = tuple(network.event_shape)

    def independent(self, elements: td.Distribution) -> td.Independent:
        """Return one event of independent elements; its `log_prob` sums over the event and nothing else."""
        return td.Independent(elements, len(self.event_shape), validate_args=False)

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Update running statistics from a prediction and its event; `Conditional.log_prob` calls this in training."""

    def monitors(self) -> dict[str, Tensor]:
        """Return scalars to log, by name, collected since the last call."""
        return {}
