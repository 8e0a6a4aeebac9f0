"""Data files: taken from the data folder where they are, fetched from a list of mirrors where not, verified always."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pooch
from numpy.typing import NDArray

from vaelab.data.splits import DataError

EMBEDDED = "or train on the embedded digits with data=mnist5k"
FETCH_AGAIN = "delete it to fetch it again"


def fetch(
    file: Path, expected: str | None, mirrors: Sequence[str], verify: Callable[[Path], object] = lambda path: None
) -> Path:
    """The path of a verified data file, downloaded first if it is not there.

    Args:
        file: where it belongs.
        expected: SHA-256 of its bytes; None if the caller verifies what it decodes to.
        mirrors: addresses to try in turn.
        verify: raises a DataError on what a mirror sent instead, so that the next one is asked.

    Raises:
        DataError: the file is there but damaged, or absent and no mirror gave it; says which file to put where.
    """
    if file.exists():
        if expected and hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise DataError(f"{file} is damaged: its SHA-256 is not {expected}; {FETCH_AGAIN}, {EMBEDDED}")
        return file
    pooch.get_logger().setLevel("ERROR")
    reason = "no mirror is known"
    for address in mirrors:
        try:
            pooch.retrieve(address, expected, fname=file.name, path=file.parent)
            verify(file)
            return file
        except (OSError, ValueError, DataError) as error:  # no network, an HTTP error; a wrong hash; a page
            reason = f"{type(error).__name__} at {address.split('/')[2]}"
            if isinstance(error, DataError):
                file.unlink()
    raise DataError(
        f"{file.name} is not in {file.parent} and could not be fetched from {len(mirrors)} mirrors ({reason}); "
        f"put the file there, or point data_dir (or VAELAB_DATA_DIR) at the folder that has it, {EMBEDDED}"
    )


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Reads a gzipped IDX file of bytes, the format of MNIST: magic `00 00 08 ndim`, big-endian sizes, the data.

    Raises:
        DataError: not gzip, truncated, another magic number, or a size that the header does not announce.
    """
    try:
        content = gzip.decompress(file.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is not a whole gzip file ({error}); {FETCH_AGAIN}, {EMBEDDED}") from error
    ndim = content[3] if len(content) > 3 else 0
    start = 4 + 4 * ndim
    if content[:3] != b"\x00\x00\x08" or ndim == 0 or len(content) < start:
        raise DataError(
            f"{file} is not an IDX file of bytes: it starts with {content[:4].hex() or 'nothing'}, expected 000008xx "
            f"and the sizes; {FETCH_AGAIN}, {EMBEDDED}"
        )
    shape = struct.unpack(f">{ndim}I", content[4:start])
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{file} holds {len(content) - start} bytes of data, its header announces {shape}; "
            f"{FETCH_AGAIN}, {EMBEDDED}"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def verify_array(array: NDArray[np.uint8], expected: str, source: str, remedy: str = FETCH_AGAIN) -> NDArray[np.uint8]:
    """Returns `array` if the hash of its bytes in C order is the expected one.

    Raises:
        DataError: another hash.
    """
    found = sha256(array)
    if found != expected:
        raise DataError(
            f"{source} decodes to other data: expected SHA-256 {expected[:12]}..., found {found[:12]}...; {remedy}"
        )
    return array


def sha256(array: NDArray[np.uint8]) -> str:
    """SHA-256 of an array's bytes in C order."""
    return hashlib.sha256(array.tobytes()).hexdigest()
