"""The logistic head."""

from collections.abc import Callable

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.scales import OptimalScale, PerPixelScale, Scale
from vaelab.networks import Network


class Logistic(LocationScale):
    """Independent logistic pixels, with heavier tails than a Gaussian's.

    `mu = W h + b`, `log p(x|z) = sum_i -y_i - 2 log(1 + exp(-y_i)) - log s_i`, `y_i = (x_i - mu_i) / s_i`. The `scale`
    gives s; the standard deviation is `s pi / sqrt(3)`, 1.8 times as large. Scored over levels (`OverLevels`), it is
    the discretised logistic likelihood of Salimans et al. (2017, PixelCNN++, section 2.1) with one component. The
    arguments are those of `LocationScale`.

    Raises:
        ValueError: the scale is an `OptimalScale`, which maximises the likelihood of a Gaussian only.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> Logistic(network, sigmoid_mean=True)(network(torch.zeros(5, 2))).mean.shape
        torch.Size([5, 1, 28, 28])
    """

    family = vd.Logistic

    def __init__(
        self, network: Network, scale: Callable[[Network], Scale] = PerPixelScale, sigmoid_mean: bool = False
    ) -> None:
        super().__init__(network, scale, sigmoid_mean)
        if isinstance(self.scale, OptimalScale):
            raise ValueError(
                "a Logistic head expects a scale that is learnt or fixed, found OptimalScale, which is optimal for a "
                "Gaussian only: choose vaelab.heads.SharedScale, which learns one scale"
            )
