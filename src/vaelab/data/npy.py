"""NumPy's .npy files of numbers: the header is checked against the file before all else; nothing is unpickled."""

import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vaelab.errors import DataError

_LONGEST_HEADER = 12_000  # NumPy itself refuses one of more than 10,000
_READ = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
    (3, 0): npy.read_array_header_2_0,  # differs in the names of fields, which a number does not have
}
KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "real numbers"}


def map_npy(file: Path, axes: tuple[str, ...], kinds: str) -> NDArray[Any]:
    """The array of a .npy file, mapped into memory and read where it is looked at.

    Args:
        file: where it is; may be a link to a regular file.
        axes: what the array may be, such as `[N, H, W]`.
        kinds: letters of `KINDS`, what its numbers may be.

    Raises:
        DataError: not there, not a .npy file, other axes or numbers, none at all, or another size than its header
            announces.
    """
    if not file.is_file():  # a folder, a pipe or a device, which never ends
        found = "is not a regular file" if file.exists() else "does not exist"
        raise DataError(
            f"{file} {found}; put the .npy file there, or point data_dir (or VAELAB_DATA_DIR) at its folder"
        )
    shape, dtype, start = _header(file)
    if dtype.kind not in kinds:
        found = "Python objects, which are never unpickled" if dtype.hasobject else f"numbers of type {_short(dtype)}"
        expected = " or ".join(dict.fromkeys(KINDS[kind] for kind in kinds))
        raise DataError(f"{file} holds {found}; expected {expected}: save such an array with numpy.save")
    if len(shape) not in [1 + text.count(",") for text in axes]:
        raise DataError(f"{file} has shape {_short(shape)}, expected {' or '.join(axes)}: reshape the array")
    size, found = math.prod(shape) * dtype.itemsize, file.stat().st_size - start
    if found != size:
        raise DataError(
            f"{file} holds {found} bytes of data, its header announces {size} for {_short(shape)}: "
            "save the array again with numpy.save"
        )
    if size == 0:
        raise DataError(
            f"{file} holds an array of shape {_short(shape)} with nothing in it; expected at least one number"
        )
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _header(file: Path) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type, and where the data start."""
    with file.open("rb") as stream:
        head = BytesIO(stream.read(_LONGEST_HEADER))  # a header's length is a claim as well
    try:
        shape, _, dtype = _READ[npy.read_magic(head)](head)
        if max(shape, default=0) >= 2**63:
            raise ValueError("a size that no file has")
    except (Exception, RecursionError) as error:  # NumPy's parser raises what it stumbles over
        starts = head.getvalue()[:6].hex() or "nothing"
        raise DataError(
            f"{file} is not a whole .npy file: it starts with {starts}, expected 934e554d5059 and a header; "
            "write it with numpy.save"
        ) from error
    if min(shape, default=0) < 0:
        raise DataError(f"{file} has a header that announces {_short(shape)}: write it with numpy.save")
    return shape, dtype, head.tell()


def _short(thing: object) -> str:
    text = str(thing)
    return text if len(text) <= 60 else f"{text[:60]}..."
