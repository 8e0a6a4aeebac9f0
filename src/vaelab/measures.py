"""Units: nats into bits per dimension, where that is meaningful."""

import math
from collections.abc import Sequence


def bits_per_dim(nats: float, event_shape: Sequence[int], measure: str, pixels: str, num_levels: int) -> float:
    """Bits per dimension of a bound or log-likelihood of `nats` per example; lower is better.

    A mass over levels gives `-nats / (D log 2)`. A density over dequantised pixels, `x = (level + u) / num_levels`,
    has the Jacobian `num_levels^-D`, which adds `log2(num_levels)`; by Jensen's inequality the result is an upper
    bound of the mass's (Theis et al. 2016, section 3.1). Binary data have none: None.

    Args:
        measure: `mass` or `density`, as the decoder's head says.
        pixels: `binary`, `unit` or `levels`.
    """
    if not has_bits_per_dim(pixels):
        raise ValueError("binary pixels have no bits per dimension")
    bits = -nats / (math.prod(event_shape) * math.log(2))
    return bits + math.log2(num_levels) if measure == "density" and pixels == "unit" else bits


def has_bits_per_dim(pixels: str) -> bool:
    """Whether pixels are levels, or dequantised levels: binary ones have no bits per dimension."""
    return pixels != "binary"
