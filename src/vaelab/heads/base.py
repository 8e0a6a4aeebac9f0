"""The contract of a head: it turns the features of a network into a distribution."""

from typing import Any, ClassVar

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

Features = Float[Tensor, "*features"]


class Head(nn.Module):
    """Base class of the heads: a head's forward maps features to a `torch.distributions.Distribution`.

    Its `batch_shape` is the features' leading dimensions, and its `event_shape` is the event's shape. The head owns the
    last layers, and alone knows the formula of the likelihood. Log-probabilities are in nats. Features are in the dtype
    of the head's weights, whatever the precision of the network. To write your own, derive from `Head`, take the
    network as first argument, and set `pixels` and `measure`.

    Args:
        network: the network before the head. `network.output_layer(...)` makes the head's layers; the head does not
            keep the network itself.

    Attributes:
        pixels: what a decoder with this head models: `"binary"` pixels ({0, 1}), `"unit"` pixels (strictly inside
            (0, 1)) or `"levels"` (integers from 0). The data module serves such pixels.
        measure: `"mass"` if `log_prob` is the log of a probability, `"density"` if it is the log of a density.
        event_shape: shape of one event.
        discrete: whether events of this head, as an encoder, are discrete in evaluation.
    """

    pixels: str
    measure: str
    discrete: ClassVar[bool] = False

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.event_shape: tuple[int, ...] = tuple(network.event_shape)

    def independent(self, elements: td.Distribution) -> td.Independent:
        """Return the joint distribution of an event's independent elements; its `log_prob` sums over the event only."""
        return td.Independent(elements, len(self.event_shape), validate_args=False)

    def as_context(self, event: Tensor) -> Tensor:
        """Return a draw z of this head, the encoder's or one of its prior, as the decoder gets it: by default z itself.

        A head whose events are discrete in evaluation relaxes them in training, to any real numbers; see
        `vaelab.heads.RelaxedBernoulli`. The decoder then gets what is close to a discrete z.
        """
        return event

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Update running statistics from a prediction and its event. `Conditional.log_prob` calls this in training."""

    def monitors(self) -> dict[str, Tensor]:
        """Return scalars to log, by name, and reset the counts behind them."""
        return {}
