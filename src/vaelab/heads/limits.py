"""Smooth limits of a head's parameters."""

import math

from torch import Tensor


def between(lower: float, upper: float, initial: float, output: Tensor) -> Tensor:
    """Map outputs of a layer into [lower, upper], and 0 to `initial`, through a scaled sigmoid.

    Far from both limits it is `lower + (initial - lower) exp(output)`. No limit stops the gradient, as a clamp would.
    """
    share = (initial - lower) / (upper - lower)
    return lower + (upper - lower) * (output + math.log(share / (1 - share))).sigmoid()
