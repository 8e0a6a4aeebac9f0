"""CIFAR-10: Krizhevsky (2009). 60,000 colour photographs, 32 x 32."""

import tarfile
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from vaelab.data.download import Downloaded
from vaelab.data.splits import Split, Splits, validate_on_last

FILE = "cifar-10-binary.tar.gz"  # the version for Python holds pickles, which can run code
BYTES = 3 * 32 * 32


class CIFAR10(Downloaded):
    """CIFAR-10: train on its first 45,000 training images, validate on its last 5,000, test on its 10,000 test images.

    The event shape is `[3, 32, 32]`, with 256 levels.
    """

    name = "cifar10"
    num_val = 5000
    mirrors = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        "https://web.archive.org/web/2022id_/https://www.cs.toronto.edu/~kriz/",
    )
    hashes: ClassVar = {FILE: "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"}

    def splits(self) -> Splits:
        with tarfile.open(self.file(FILE)) as archive:
            train = _read(archive, [f"data_batch_{number}.bin" for number in range(1, 6)])
            return validate_on_last(train, _read(archive, ["test_batch.bin"]), self.num_val)


def _read(archive: tarfile.TarFile, names: Sequence[str]) -> Split:
    files = [archive.extractfile(f"cifar-10-batches-bin/{name}") for name in names]
    records = np.frombuffer(b"".join(file.read() for file in files if file), np.uint8).reshape(-1, 1 + BYTES)
    return Split(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])
