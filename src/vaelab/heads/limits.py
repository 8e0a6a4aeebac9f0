"""Smooth limits of a head's parameters."""

import math

from torch import Tensor
from torch.nn.functional import logsigmoid


def between(lower: float, upper: float, initial: float, output: Tensor) -> Tensor:
    """Map outputs of a layer into [lower, upper], and 0 to `initial`, through a scaled sigmoid.

    Far from the upper limit it is `lower + (initial - lower) exp(output)`. No limit stops the gradient: a clamp would,
    and so would a sigmoid that rounds to 1.
    """
    share = (initial - lower) / (upper - lower)
    return lower + (upper - lower) * logsigmoid(output + math.log(share / (1 - share))).exp()
