"""Kuzushiji-MNIST: Clanuwat et al. (2018). 70,000 cursive Japanese characters in the format of MNIST."""

from typing import ClassVar

from vaelab.data.datasets.mnist import MNIST


class KMNIST(MNIST):
    """Kuzushiji-MNIST, split 50,000 / 10,000 / 10,000 as MNIST is: the last 10,000 training characters validate.

    The event shape is `[1, 28, 28]`, with 256 levels.
    """

    name = "kmnist"
    mirrors = (
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "https://web.archive.org/web/2022id_/http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    )
    hashes: ClassVar = {
        "train-images-idx3-ubyte.gz": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "train-labels-idx1-ubyte.gz": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "t10k-images-idx3-ubyte.gz": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "t10k-labels-idx1-ubyte.gz": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    }
