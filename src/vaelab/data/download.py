"""Download data files and verify them by SHA-256 before anything parses them."""

from collections.abc import Sequence
from pathlib import Path

import pooch

from vaelab.errors import DataError

EMBEDDED = "or train on the embedded digits with data=mnist5k"


def fetch(file: Path, sha256: str, mirrors: Sequence[str]) -> Path:
    """Return the path of a verified data file; if it is absent, download it from the first mirror that has it.

    Raises:
        DataError: the file is damaged, or it is absent and no mirror sent it.
    """
    if file.exists():
        return verify(file, sha256, f"delete it to fetch it again, {EMBEDDED}")
    pooch.get_logger().setLevel("ERROR")
    reasons = []
    for url in mirrors:
        try:
            return Path(pooch.retrieve(url, sha256, fname=file.name, path=file.parent))
        except (OSError, ValueError) as error:  # a network or HTTP error, or a SHA-256 mismatch
            reasons.append(f"{type(error).__name__} at {url.split('/')[2]}")
    raise DataError(
        f"{file.name} is not in {file.parent} and could not be fetched ({', '.join(reasons)}); put the file there, or "
        f"point data_dir (or VAELAB_DATA_DIR) at the folder that holds {file.parent.name}/, {EMBEDDED}"
    )


def verify(file: Path, sha256: str, remedy: str) -> Path:
    """Return `file` if it is a regular file with this SHA-256.

    Raises:
        DataError: `file` is not such a file; the message ends with `remedy`.
    """
    if not file.is_file():  # a pipe would block
        raise DataError(f"{file} is not a regular file; {remedy}")
    if (found := pooch.file_hash(str(file))) != sha256:
        raise DataError(f"{file} is damaged: expected SHA-256 {sha256}, found {found}; {remedy}")
    return file
