"""Heads that integrate a density over the cell of each grey level."""

from collections.abc import Callable
from typing import ClassVar

from vaelab.heads.gaussian import DiagonalGaussian
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.logistic import Logistic
from vaelab.heads.over_levels import OverLevels
from vaelab.heads.scales import PerPixelScale, Scale
from vaelab.networks import Network


class Discretised(OverLevels):
    """Base class of the heads that make an `OverLevels` of a `LocationScale` of their own.

    Args:
        network: the network before the head.
        num_levels: how many values a pixel of the data can have.
        scale, sigmoid_mean: as for `LocationScale`, in units of [0, 1].

    Attributes:
        density: the class of the head over unit pixels.
    """

    density: ClassVar[type[LocationScale]]

    def __init__(
        self,
        network: Network,
        num_levels: int,
        scale: Callable[[Network], Scale] = PerPixelScale,
        sigmoid_mean: bool = False,
    ) -> None:
        super().__init__(self.density(network, scale, sigmoid_mean), num_levels)


class DiscretisedGaussian(Discretised):
    """The mass that a Gaussian puts into the cell of each grey level: `OverLevels` of a `DiagonalGaussian`.

    `log P(l|z) = sum_i log(Phi((u_i - mu_i) / sigma_i) - Phi((d_i - mu_i) / sigma_i))`, for the ends d and u of the
    cell in [0, 1]; the cells of the lowest and the highest level reach to infinity (Ho et al. 2020, section 3.3).

    The arguments are those of `Discretised`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> p = DiscretisedGaussian(network, num_levels=256)(network(torch.zeros(5, 2)))
        >>> p.log_prob(torch.zeros(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    density = DiagonalGaussian


class DiscretisedLogistic(Discretised):
    """The mass that a logistic puts into the cell of each grey level: `OverLevels` of a `Logistic`.

    `log P(l|z) = sum_i log(sigmoid((u_i - mu_i) / s_i) - sigmoid((d_i - mu_i) / s_i))`: Kingma et al. (2016, IAF,
    appendix), Salimans et al. (2017, PixelCNN++, section 2.1). The arguments are those of `Discretised`; an
    `OptimalScale` is refused.
    """

    density = Logistic
