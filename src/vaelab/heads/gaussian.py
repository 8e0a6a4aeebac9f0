"""The diagonal Gaussian head."""

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale


class DiagonalGaussian(LocationScale):
    """Gaussian MLP output, for encoder and decoder alike: appendix C.2 of Kingma & Welling (2014).

    `mu = W4 h + b4`, `log sigma^2 = W5 h + b5`, `log p(x|z) = log N(x; mu, sigma^2 I)`: two parallel linear layers on
    one h, since the mean of a Gaussian says nothing of its variance. With other `scale`s, sigma is one number.
    Arguments are those of `LocationScale`.
    """

    family = vd.Normal
