"""The diagonal Gaussian head."""

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale


class DiagonalGaussian(LocationScale):
    """Independent Gaussian elements, for the encoder and the decoder: appendix C.2 of Kingma & Welling (2014).

    `mu = W4 h + b4`, `log sigma^2 = W5 h + b5`, `log p(x|z) = log N(x; mu, sigma^2 I)`. There are two parallel linear
    layers on one h, because the mean of a Gaussian does not determine its variance. With a
    `SharedScale`, `FixedScale` or `OptimalScale`, sigma is one number. The arguments are those of `LocationScale`.

    Examples:
        >>> import torch
        >>> from vaelab.networks import MLP
        >>> network = MLP((1, 28, 28), (2,))
        >>> DiagonalGaussian(network)(network(torch.rand(5, 1, 28, 28))).rsample().shape
        torch.Size([5, 2])
    """

    family = vd.Normal
