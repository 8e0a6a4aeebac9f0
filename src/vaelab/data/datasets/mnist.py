"""MNIST: LeCun, Cortes & Burges (1998). 70,000 handwritten digits, 28 x 28."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits, validate_on_last


@dataclass(eq=False, repr=False)
class MNIST(Downloaded):
    """MNIST: train on its first 50,000 training digits, validate on its last 10,000, test on its 10,000 test digits.

    The event shape is `[1, 28, 28]`, with 256 levels. A subclass has other `mirrors` and `hashes`.

    Args:
        num_val: how many of the last training digits validate. Other arguments are those of `ImageData`.

    Raises:
        DataError: no digit would be left to train on, or to validate on.
    """

    name = "mnist"
    mirrors = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
    )
    hashes: ClassVar = {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }

    num_val: int = 10_000

    def splits(self) -> Splits:
        return validate_on_last(self._read("train"), self._read("t10k"), self.num_val)

    def _read(self, part: str) -> Split:
        images, labels = (read_idx(self.file(f"{part}-{kind}-ubyte.gz")) for kind in ("images-idx3", "labels-idx1"))
        return Split(images[:, None], labels)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Read a verified, gzipped IDX file of bytes: 00 00 08, the number of axes, their sizes (big-endian), the data."""
    content = gzip.decompress(file.read_bytes())
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape)
