"""The kinds of pixels that a head can model, and nats as bits per dimension."""

import math
from collections.abc import Sequence

from vaelab.errors import ConfigError

MEASURES = {"binary": "mass", "unit": "density", "levels": "mass"}  # `Head.measure` for these pixels


def check_pixels(pixels: str, name: str, num_levels: int) -> None:
    """Refuse a head's pixels that are none of the three kinds, or that the images of the data set `name` do not have.

    Raises:
        ConfigError: the images have 2 levels, so their pixels are binary, and the head models others.
    """
    if pixels not in MEASURES:
        raise ConfigError(f"a head's pixels must be one of {', '.join(MEASURES)}, found {pixels!r}")
    if num_levels == 2 and pixels != "binary":
        raise ConfigError(
            f"{name} has binary pixels, because its images have 2 levels, but the decoder models pixels of the kind "
            f"{pixels}: type decoder=bernoulli"
        )


def bits_per_dim(nats: float, event_shape: Sequence[int], pixels: str, num_levels: int) -> float:
    """Convert a bound or log-likelihood, in nats per example, to bits per dimension; lower is better.

    A mass over levels gives `-nats / (D log 2)`, with D pixels. A density over dequantised pixels,
    `x = (level + u) / num_levels`, has the Jacobian `num_levels^-D`, which adds `log2(num_levels)`. By Jensen's
    inequality the result is an upper bound on the mass's bits (Theis et al. 2016, section 3.1).

    Args:
        nats: log-likelihood or bound per example.
        event_shape: shape of an image.
        pixels: `unit` or `levels`; binary pixels have no bits per dimension, because they have 2 values.
        num_levels: how many values a stored pixel can have.
    """
    bits = -nats / (math.prod(event_shape) * math.log(2))
    return bits + math.log2(num_levels) if MEASURES[pixels] == "density" else bits
