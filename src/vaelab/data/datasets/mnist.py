"""MNIST: LeCun, Cortes & Burges (1998). 70,000 handwritten digits, 28 x 28."""

from typing import Any

from vaelab.data.base import ImageData
from vaelab.data.download import fetch, read_idx
from vaelab.data.splits import Split, Splits, contiguous_split

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}
NUM_TRAIN = 50_000


class MNIST(ImageData):
    """The first 50,000 training digits, the last 10,000 as validation, and the 10,000 test digits; never mixed.

    Args:
        kwargs: see `ImageData`; `data_dir/mnist/` holds the four files, or will.

    Raises:
        DataError: see `fetch` and `read_idx`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("mnist", **kwargs)

    def splits(self) -> Splits:
        digits = self._read("train")
        sizes = (NUM_TRAIN, len(digits) - NUM_TRAIN, 0)
        splits = contiguous_split(digits, sizes)
        splits["test"] = self._read("t10k")
        return splits

    def _read(self, part: str) -> Split:
        arrays = []
        for kind in ("images-idx3", "labels-idx1"):
            name = f"{part}-{kind}-ubyte.gz"
            arrays.append(read_idx(fetch(self.data_dir / "mnist" / name, SHA256[name], [m + name for m in MIRRORS])))
        images, labels = arrays
        return Split(images[:, None], labels)
