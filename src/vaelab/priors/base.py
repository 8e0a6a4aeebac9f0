"""The contract of a prior p(z)."""

from collections.abc import Callable, Sequence

import torch.distributions as td
from torch import Tensor, nn

Encode = Callable[[Tensor], td.Distribution]


class Prior(nn.Module):
    """Base class of the priors p(z): a module whose forward returns a distribution over the latent.

    Args:
        latent_shape: shape of one z, which is the event of that distribution.
        event_shape: shape of one x, for priors that keep examples such as pseudo-inputs.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.event_shape = tuple(event_shape)

    def forward(self, encode: Encode) -> td.Distribution:
        """Return p(z), with no batch shape.

        Args:
            encode: maps x to q(z|x). A prior may use the encoder, as VampPrior does, and never owns it: no parameter is
                saved twice, and the prior on the weights does not reach the encoder.
        """
        raise NotImplementedError
