"""Data sets in memory: bytes on the device, indices as batches, pixels as the decoder's head models them."""

from vaelab.data.base import ImageData
from vaelab.data.splits import DataError, Split

__all__ = ["DataError", "ImageData", "Split"]
