"""Data sets: images in memory, cut into splits and drawn as the pixels that a decoder models."""

from vaelab.data.base import ImageData
from vaelab.data.datasets.array import Array
from vaelab.data.datasets.digits import Digits
from vaelab.data.datasets.frey_face import FreyFace
from vaelab.data.datasets.mnist import MNIST
from vaelab.data.datasets.mnist5k import MNIST5k
from vaelab.data.splits import Split

__all__ = ["MNIST", "Array", "Digits", "FreyFace", "ImageData", "MNIST5k", "Split"]
