"""MATLAB files of level 5: one matrix of bytes, read with bounded memory, whatever the file says about itself.

SciPy reads many more kinds, and trusts what it reads: files of less than a kilobyte have it take gigabytes (an array of
cells that announces its size), never end (level 4, a negative size) or crash the process (an unknown type of data).
"""

import math
import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**23  # bytes, of the file, and of what it decompresses to
_BYTE_ORDER = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}  # version 1.0, and how the writer's machine orders "MI"
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15  # types of data
_CLASS_UINT8, _COMPLEX = 9, 0x0800  # in the flags of a matrix
Element = tuple[int, memoryview]


def read_bytes_matrix(file: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The real matrix of class uint8 that a MATLAB file of level 5 (`save -v6` or `-v7`) holds under `name`.

    The format is that of *MAT-File Format* (MathWorks): a header of 128 bytes, then elements, each with its type and
    size; one that is a matrix holds elements in turn: flags, dimensions, name, data in column order.

    Args:
        file: a regular file.
        name: of the variable; the first one of that name is read.
        shape: of the matrix; another is refused.

    Raises:
        ValueError: another kind of file, larger than `LARGEST`, truncated, or without such a matrix.
    """
    with file.open("rb") as stream:
        content = memoryview(stream.read(LARGEST + 1))
    order = _BYTE_ORDER.get(bytes(content[124:128]))
    if order is None or 0 in content[:4]:  # level 4 has a zero among the first four
        raise ValueError("expected MATLAB's level 5: save it with -v6 or -v7")
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    try:
        for matrix in _matrices(content[128:], order):
            parts = list(islice(_elements(matrix, order), 4))
            if len(parts) == 4 and bytes(parts[2][1]) == name.encode() and parts[2][0] == _INT8:
                return _array(parts, order, shape)
    except (struct.error, zlib.error) as error:
        raise ValueError(f"damaged: {error}") from error
    raise ValueError(f"it holds no matrix {name}")


def _matrices(content: memoryview, order: str) -> Iterator[memoryview]:
    room = LARGEST
    for kind, body in _elements(content, order):
        if kind == _COMPRESSED:
            inflated = _inflated(body, room)
            room -= len(inflated)
            kind, body = next(_elements(inflated, order), (0, body))
        if kind == _MATRIX:
            yield body


def _inflated(body: memoryview, room: int) -> memoryview:
    stream = zlib.decompressobj()
    inflated = stream.decompress(body, room + 1)
    if len(inflated) > room:
        raise ValueError(f"it decompresses to more than {LARGEST} bytes")
    if not stream.eof:
        raise ValueError("a compressed element is cut short")
    return memoryview(inflated)


def _elements(content: memoryview, order: str) -> Iterator[Element]:
    """Types and contents of the elements that follow each other; those that are not compressed fill eights of bytes."""
    at = 0
    while at < len(content):
        kind, size = struct.unpack_from(order + "2I", content, at)
        start, end = at + 8, at + 8 + size
        at = end + (0 if kind == _COMPRESSED else -size % 8)
        if kind >> 16:  # at most four bytes, in the second half of the tag
            kind, size, at = kind & 0xFFFF, kind >> 16, start
            start, end = at - 4, at - 4 + size
        if end > min(at, len(content)):
            raise ValueError(f"an element announces {size} bytes, more than there are")
        yield kind, content[start:end]


def _array(parts: list[Element], order: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    kinds = [kind for kind, _ in parts]
    flags, dimensions, _, data = (body for _, body in parts)
    word = struct.unpack_from(order + "I", flags)[0]
    dims = struct.unpack_from(order + f"{len(shape)}i", dimensions)
    if kinds != [_UINT32, _INT32, _INT8, _UINT8] or word & (0xFF | _COMPLEX) != _CLASS_UINT8:
        raise ValueError("the matrix is not one of bytes: expected class uint8")
    if dims != shape or len(dimensions) != 4 * len(shape) or len(data) != math.prod(shape):
        raise ValueError(f"expected a matrix of {shape}, found {dims} and {len(data)} bytes of data")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F")
