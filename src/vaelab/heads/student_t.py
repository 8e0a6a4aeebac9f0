"""The Student-t head."""

from collections.abc import Callable

import torch.distributions as td
from torch import Tensor

import vaelab.distributions as vd
from vaelab.heads.base import Features
from vaelab.heads.limits import Limited
from vaelab.heads.location_scale import LocationScale
from vaelab.heads.scales import PerPixelScale, Scale
from vaelab.networks import Network


class StudentT(LocationScale):
    """Independent Student-t pixels: a location, a scale and degrees of freedom n for each (Takahashi et al. 2018).

    `log p(x|z) = sum_i log t(y_i; n_i) - log s_i`, `y_i = (x_i - mu_i) / s_i`; see `vaelab.distributions.StudentT`. A
    third layer gives n, between 2.1, so that the variance `s^2 n / (n - 2)` is finite, and 1000, from which a Gaussian
    cannot be told. The `scale` gives s. The arguments are those of `LocationScale`; an `OptimalScale` is refused.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> StudentT(network)(network(torch.zeros(5, 2))).log_prob(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    family = vd.StudentT

    def __init__(
        self, network: Network, scale: Callable[[Network], Scale] = PerPixelScale, sigmoid_mean: bool = False
    ) -> None:
        super().__init__(network, scale, sigmoid_mean)
        self.df = Limited(network, lower=2.1, upper=1000.0, initial=10.0)

    def elements(self, features: Features, loc: Tensor, scale: Tensor) -> td.Distribution:
        return vd.StudentT(self.df(features), loc, scale, validate_args=False)

    def monitors(self) -> dict[str, Tensor]:
        return super().monitors() | {"df_at_limit": self.df.share_at_limit()}
