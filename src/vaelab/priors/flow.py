"""A normalising flow as prior."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor, nn

import vaelab.distributions as vd
from vaelab.priors.base import Encode, Prior
from vaelab.priors.learned import LOG_SCALE, log_of_scale, scale_of


class FlowPrior(Prior):
    """A prior that is an autoregressive neural spline flow: Durkan et al. (2019).

    `e = f((z - mu) / sigma)` is N(0, I), with learnt mu, sigma and f. Each layer of f is `y_i = g(x_i; phi_i)`, where
    a masked network computes phi_i from the x_j before x_i, and g is a monotonic rational-quadratic spline on [-5, 5],
    the identity beyond: `vaelab.distributions.AutoregressiveLayer`. It begins as N(0, I). A density takes one pass,
    and a sample takes one for each dimension.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_transforms: the number of layers of f.
        hidden_features: the width of the hidden layer of the network in each layer of f, or a list of widths.
        num_bins: the number of bins of a spline.

    Raises:
        ValueError: a count is below 1, or `num_bins` is below 2.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        num_transforms: int = 2,
        hidden_features: int | Sequence[int] = 64,
        num_bins: int = 8,
    ) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = nn.Parameter(torch.zeros(*latent_shape))
        self.log_scale = nn.Parameter(torch.full(latent_shape, LOG_SCALE))
        self.layers = vd.autoregressive_layers(latent_shape[0], 0, num_transforms, hidden_features, num_bins=num_bins)

    @torch.no_grad()
    def fit(self, encode: Encode, z: Tensor) -> None:
        """Begin at the mean and the standard deviations of the samples, then fit as `Prior` does."""
        self.loc.copy_(z.mean(0))
        self.log_scale.copy_(log_of_scale(z.std(0, correction=0)))
        super().fit(encode, z)

    def forward(self, encode: Encode) -> td.Distribution:
        return vd.Flow(self.loc, scale_of(self.log_scale), [layer(None).inv for layer in reversed(self.layers)])
