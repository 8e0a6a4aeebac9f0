"""Static MNIST: the fixed binarisation of MNIST by Larochelle & Murray (2011)."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits


class StaticMNIST(Downloaded):
    """MNIST binarised once by Larochelle, split 50,000 / 10,000 / 10,000 by its three files.

    The event shape is `[1, 28, 28]`, with 2 levels. There are no labels.
    """

    name = "static_mnist"
    num_levels = 2
    mirrors = (
        "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
        "https://web.archive.org/web/2022id_/http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    )
    hashes: ClassVar = {
        "binarized_mnist_train.amat": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
        "binarized_mnist_valid.amat": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
        "binarized_mnist_test.amat": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    }

    def splits(self) -> Splits:
        files = {name: self.file(f"binarized_mnist_{name}.amat") for name in ("train", "valid", "test")}
        return {"train": read_amat(files["train"]), "val": read_amat(files["valid"]), "test": read_amat(files["test"])}


def read_amat(file: Path) -> Split:
    """Read a verified file of lines of 784 digits, 0 or 1, with one character between them."""
    digits = np.frombuffer(file.read_bytes(), np.uint8)[::2] - ord("0")
    return Split(digits.reshape(-1, 1, 28, 28))
