"""The logit-normal head."""

from collections.abc import Callable

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.scales import PerPixelScale, Scale
from vaelab.networks import Network


class LogitNormal(LocationScale):
    """Independent pixels whose logits are Gaussian, so that they never leave (0, 1): Aitchison & Shen (1980).

    `log p(x|z) = sum_i log N(logit x_i; mu_i, sigma_i^2) - log x_i - log(1 - x_i)`. The last two terms are the
    Jacobian.

    Args:
        network: the network before the head.
        scale: makes the `vaelab.heads.Scale` of the logits; an `OptimalScale` is refused.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> LogitNormal(network)(network(torch.zeros(5, 2))).log_prob(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    family = vd.LogitNormal

    def __init__(self, network: Network, scale: Callable[[Network], Scale] = PerPixelScale) -> None:
        super().__init__(network, scale)
