"""Download data files, and verify each by its hash before anything parses it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pooch
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.errors import DataError

EMBEDDED = "or train on the embedded digits with data=mnist5k"


class Downloaded(ImageData):
    """A data set whose files lie in `data_dir/<name>/`, or are downloaded into it.

    Attributes:
        mirrors: addresses of the folder of the files, each with a slash at its end; tried in this order.
        hashes: name of each file → its SHA-256, or `md5:` and its MD5 where only that is published.

    Raises:
        DataError: a file is damaged, or could not be fetched.
    """

    verified = True
    mirrors: ClassVar[Sequence[str]]
    hashes: ClassVar[Mapping[str, str]]

    def file(self, name: str) -> Path:
        """Return the path of a file, verified."""
        path = Path(self.data_dir, str(self.name), name)
        return fetch(path, self.hashes[name], [mirror + name for mirror in self.mirrors])

    def matlab(self, name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays in a verified MATLAB file, by name."""
        from scipy.io import loadmat  # slow to import, and needed only here

        return loadmat(self.file(name))


def fetch(file: Path, known_hash: str, mirrors: Sequence[str]) -> Path:
    """Return the path of a verified data file; if it is absent, download it from the first mirror that has it.

    Raises:
        DataError: the file is damaged, or it is absent and no mirror sent it.
    """
    if file.exists():
        return verify(file, known_hash, f"delete it to fetch it again, {EMBEDDED}")
    pooch.get_logger().setLevel("ERROR")
    reasons = []
    for url in mirrors:
        try:
            return Path(pooch.retrieve(url, known_hash, fname=file.name, path=file.parent))
        except (OSError, ValueError) as error:  # a network or HTTP error, or another hash
            reasons.append(f"{type(error).__name__} at {url.split('/')[2]}")
    raise DataError(
        f"{file.name} is not in {file.parent} and could not be fetched ({', '.join(reasons)}); put the file there, or "
        f"point data_dir (or VAELAB_DATA_DIR) at the folder that holds {file.parent.name}/, {EMBEDDED}"
    )


def verify(file: Path, known_hash: str, remedy: str) -> Path:
    """Return `file` if it is a regular file with this hash: a SHA-256, or `md5:` and an MD5.

    Raises:
        DataError: `file` is not such a file; the message ends with `remedy`.
    """
    if not file.is_file():  # a pipe would block
        raise DataError(f"{file} is not a regular file; {remedy}")
    algorithm, _, expected = known_hash.rpartition(":")
    if (found := pooch.file_hash(str(file), algorithm or "sha256")) != expected:
        kind = algorithm.upper() or "SHA-256"
        raise DataError(f"{file} is damaged: expected {kind} {expected}, found {found}; {remedy}")
    return file
