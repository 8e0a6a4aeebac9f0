"""The logistic head."""

import vaelab.distributions as vd
from vaelab.heads.location_scale import LocationScale


class Logistic(LocationScale):
    """Independent logistic pixels, with heavier tails than a Gaussian's.

    `mu = W h + b`, `log p(x|z) = sum_i -y_i - 2 log(1 + exp(-y_i)) - log s_i`, `y_i = (x_i - mu_i) / s_i`. The `scale`
    gives s; the standard deviation is `s pi / sqrt(3)`, 1.8 times as large. Scored over levels (`OverLevels`), it is
    the discretised logistic likelihood of Salimans et al. (2017, PixelCNN++, section 2.1) with one component. The
    arguments are those of `LocationScale`; an `OptimalScale` is refused.
    """

    family = vd.Logistic
