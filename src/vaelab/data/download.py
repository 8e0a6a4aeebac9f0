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

from vaelab.errors import DataError

EMBEDDED = "or train on the embedded digits with data=mnist5k"
FETCH_AGAIN = "delete it to fetch it again"
_DEFLATE = 1032  # no byte of a deflate stream stands for more than so many
_PIECE = 2**20


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
        if expected and _sha256_of_file(regular(file)) != expected:
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


def regular(file: Path, at_most: int | None = None) -> Path:
    """Returns `file` if it is a regular file, which ends, and does not wait for a writer as a pipe does.

    Args:
        file: may be a link to one.
        at_most: bytes that it may have.

    Raises:
        DataError: nothing there, something else (a folder, a pipe, a device), or a larger file.
    """
    if not file.is_file():
        raise DataError(f"{file} is not a regular file; put the file there, {EMBEDDED}")
    size = file.stat().st_size
    if at_most is not None and size > at_most:
        raise DataError(f"{file} has {size} bytes, expected at most {at_most}; {FETCH_AGAIN}, {EMBEDDED}")
    return file


def read_idx(file: Path, at_most: int = 2**28) -> NDArray[np.uint8]:
    """Reads a gzipped IDX file of bytes, the format of MNIST: magic `00 00 08 ndim`, big-endian sizes, the data.

    The header is not believed: nothing is allocated for what the file cannot hold, and nothing is decompressed beyond
    what was announced. So a file that lies takes no more memory than an honest one.

    Args:
        file: where it is.
        at_most: bytes of data that it may hold.

    Raises:
        DataError: not gzip, truncated, another magic number, or a size that the header does not announce.
    """
    try:
        with gzip.open(regular(file, at_most)) as stream:
            shape = _idx_shape(stream, file)
            size = math.prod(shape)
            most = min(at_most, _DEFLATE * file.stat().st_size)
            if not 0 < size <= most:
                raise DataError(
                    f"{file} has a header that announces {shape}, expected 1 to {most} bytes of data in such a file; "
                    f"{FETCH_AGAIN}, {EMBEDDED}"
                )
            content = _read(stream, size + 1)  # reads to the end, where gzip verifies its checksum
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} is not a whole gzip file ({error}); {FETCH_AGAIN}, {EMBEDDED}") from error
    if len(content) != size:
        found = f"{len(content)}" if len(content) < size else f"more than {size}"
        raise DataError(f"{file} holds {found} bytes of data, its header announces {shape}; {FETCH_AGAIN}, {EMBEDDED}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _idx_shape(stream: gzip.GzipFile, file: Path) -> tuple[int, ...]:
    magic = stream.read(4)
    ndim = magic[3] if len(magic) == 4 else 0
    sizes = stream.read(4 * ndim)
    if magic[:3] != b"\x00\x00\x08" or not 0 < ndim <= 32 or len(sizes) < 4 * ndim:  # older NumPy has 32 axes
        raise DataError(
            f"{file} is not an IDX file of bytes: it starts with {magic.hex() or 'nothing'}, expected 000008xx "
            f"and the sizes; {FETCH_AGAIN}, {EMBEDDED}"
        )
    return struct.unpack(f">{ndim}I", sizes)


def _read(stream: gzip.GzipFile, size: int) -> bytearray:
    # a single read would allocate `size` before it knows what there is
    content = bytearray()
    while len(content) < size and (part := stream.read(min(_PIECE, size - len(content)))):
        content += part
    return content


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


def _sha256_of_file(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
