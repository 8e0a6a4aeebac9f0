"""Units: nats into bits per dimension, where that is meaningful."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vaelab.data import ImageData
from vaelab.data.splits import SPLITS
from vaelab.heads import Head


def bits_per_dim(nats: float, event_shape: Sequence[int], measure: str, pixels: str, num_levels: int) -> float | None:
    """Bits per dimension of a bound or log-likelihood of `nats` per example; lower is better.

    A mass over levels gives `-nats / (D log 2)`. A density over dequantised pixels, `x = (level + u) / num_levels`,
    has the Jacobian `num_levels^-D`, which adds `log2(num_levels)`; by Jensen's inequality the result is an upper
    bound of the mass's (Theis et al. 2016, section 3.1). Binary data have none: None.

    Args:
        measure: `mass` or `density`, as the decoder's head says.
        pixels: `binary`, `unit` or `levels`.
    """
    if pixels == "binary":
        return None
    bits = -nats / (math.prod(event_shape) * math.log(2))
    return bits + math.log2(num_levels) if measure == "density" and pixels == "unit" else bits


def bits_per_dim_of(metrics: dict[str, Tensor], data: ImageData, head: Head) -> dict[str, Tensor]:
    """The bound of each split among `metrics` as `<split>/bits_per_dim`, where the head's pixels have such a thing."""
    found = {}
    for split in SPLITS:
        if f"{split}/elbo" in metrics:
            nats = metrics[f"{split}/elbo"].item()
            bits = bits_per_dim(nats, data.event_shape, head.measure, head.pixels, data.num_levels)
            found |= {} if bits is None else {f"{split}/bits_per_dim": torch.tensor(bits, dtype=torch.float64)}
    return found
