"""Images that are binarised once, rather than at every draw."""

import torch
from torch import Tensor

from vaelab.randomness import generator


def binarized(images: Tensor, num_levels: int, how: str, seed: int, split: int) -> Tensor:
    """Return images of 2 levels, as bytes.

    Args:
        images: levels of 0 .. num_levels - 1, as bytes.
        how: `threshold` (1 if p = level / (num_levels - 1) is above 0.5), or `fixed` (1 with probability p).
        seed: seed of `fixed`.
        split: number of the split, which has draws of its own.
    """
    if how == "threshold":
        return (images > (num_levels - 1) / 2).to(torch.uint8)
    noise = torch.empty(images.shape, dtype=torch.uint8)
    return (noise.random_(0, num_levels - 1, generator=generator("binarize", seed, split)) < images).to(torch.uint8)
