"""Data sets: images in memory, cut into splits and drawn as the pixels that a decoder models."""

from vaelab.data.base import ImageData
from vaelab.data.datasets.array import Array
from vaelab.data.datasets.caltech101_silhouettes import Caltech101Silhouettes
from vaelab.data.datasets.cifar10 import CIFAR10
from vaelab.data.datasets.digits import Digits
from vaelab.data.datasets.fashion_mnist import FashionMNIST
from vaelab.data.datasets.frey_face import FreyFace
from vaelab.data.datasets.kmnist import KMNIST
from vaelab.data.datasets.mnist import MNIST
from vaelab.data.datasets.mnist5k import MNIST5k
from vaelab.data.datasets.omniglot import Omniglot
from vaelab.data.datasets.static_mnist import StaticMNIST
from vaelab.data.datasets.svhn import SVHN
from vaelab.data.download import Downloaded
from vaelab.data.splits import Split

__all__ = [
    "CIFAR10",
    "KMNIST",
    "MNIST",
    "SVHN",
    "Array",
    "Caltech101Silhouettes",
    "Digits",
    "Downloaded",
    "FashionMNIST",
    "FreyFace",
    "ImageData",
    "MNIST5k",
    "Omniglot",
    "Split",
    "StaticMNIST",
]
