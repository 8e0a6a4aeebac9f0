"""The contract of a prior p(z)."""

from collections.abc import Callable, Sequence

import torch.distributions as td
from torch import Tensor, nn

Encode = Callable[[Tensor], td.Distribution]


class Prior(nn.Module):
    """Base class of the priors p(z): a module whose forward returns a distribution over the latent.

    Args:
        latent_shape: shape of one z, the `event_shape` of p(z).
        event_shape: shape of one x, for priors that hold pseudo-inputs.
    """

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)
        self.event_shape = tuple(event_shape)

    def forward(self, encode: Encode) -> td.Distribution:
        """Return p(z), with batch shape ().

        Args:
            encode: the encoder, which maps x, scaled to [0, 1] whatever the likelihood, to q(z|x). A prior may call it,
                as VampPrior does, but must not keep it, because the encoder's parameters would then be saved twice, and
                the weight prior would apply to them.
        """
        raise NotImplementedError
