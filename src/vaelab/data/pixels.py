"""Units: nats into bits per dimension, where that is meaningful."""

import math
from collections.abc import Sequence

MEASURES = {"binary": "mass", "unit": "density", "levels": "mass"}  # what a log-probability of such pixels is of


def bits_per_dim(nats: float, event_shape: Sequence[int], measure: str, pixels: str, num_levels: int) -> float:
    """Bits per dimension of a bound or log-likelihood of `nats` per example; lower is better.

    A mass over levels gives `-nats / (D log 2)`. A density over dequantised pixels, `x = (level + u) / num_levels`,
    has the Jacobian `num_levels^-D`, which adds `log2(num_levels)`; by Jensen's inequality the result is an upper
    bound of the mass's (Theis et al. 2016, section 3.1). Nothing else has any.

    Args:
        measure: `mass` or `density`, as the decoder's head says.
        pixels: `unit` or `levels`, likewise.

    Raises:
        ValueError: binary pixels, or a measure that such pixels do not have.
    """
    if pixels == "binary":
        raise ValueError(
            "binary pixels have no bits per dimension, since theirs is the log-probability of one of 2 values and not "
            f"of one of {num_levels} levels: report nats"
        )
    if MEASURES.get(pixels) != measure:
        raise ValueError(
            "bits per dimension are of a mass over levels or of a density over unit pixels, found a "
            f"{measure} over {pixels} pixels: correct the head's `pixels` or `measure`"
        )
    bits = -nats / (math.prod(event_shape) * math.log(2))
    return bits + math.log2(num_levels) if measure == "density" else bits
