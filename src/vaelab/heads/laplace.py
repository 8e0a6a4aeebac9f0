"""The Laplace head."""

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale


class Laplace(LocationScale):
    """Independent Laplace pixels. The best location is a median, so an outlier moves it less than a Gaussian's mean.

    `mu = W h + b`, `log p(x|z) = sum_i -|x_i - mu_i| / b_i - log(2 b_i)`. The `scale` gives b; the standard deviation
    is `sqrt(2) b`. The arguments are those of `LocationScale`; an `OptimalScale` is refused.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((2,), (1, 28, 28))
        >>> Laplace(network)(network(torch.zeros(5, 2))).log_prob(torch.rand(5, 1, 28, 28)).shape
        torch.Size([5])
    """

    family = vd.Laplace
