"""MATLAB files of level 5, written element by element, as the format says; and many that lie."""

import struct
import zlib

MOST = 2**32 - 1
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
UINT8, CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 9, 1, 2, 3, 4, 5, 16, 17


def element(kind: int, content: bytes, claimed: int | None = None, order: str = "<") -> bytes:
    size = len(content) if claimed is None else claimed
    return struct.pack(order + "II", kind, size) + content + bytes(-len(content) % 8)


def small(kind: int, content: bytes, order: str = "<") -> bytes:
    """An element of at most four bytes, inside its own tag."""
    return struct.pack(order + "I", len(content) << 16 | kind) + content.ljust(4, b"\0")


def matrix(
    dims: tuple[int, ...] = (560, 1965),
    data: bytes = b"",
    claimed: int | None = None,
    name: bytes = b"ff",
    flags: int = UINT8,
    kind: int = 2,
    more: bytes = b"",
    whole_claimed: int | None = None,
    order: str = "<",
) -> bytes:
    head = element(6, struct.pack(order + "II", flags, 0), order=order)
    head += element(5, struct.pack(f"{order}{len(dims)}i", *dims), order=order)
    label = small(1, name, order) if len(name) <= 4 else element(1, name, order=order)
    return element(14, head + label + element(kind, data, claimed, order) + more, whole_claimed, order)


def compressed(*parts: bytes, claimed: int | None = None) -> bytes:
    stream = zlib.compressobj(9)
    content = b"".join([*map(stream.compress, parts), stream.flush()])
    return struct.pack("<II", 15, len(content) if claimed is None else claimed) + content


def bomb(mebibytes: int, kind: int, name: bytes = b"ff") -> bytes:
    """A matrix whose data (or, with kind 1, name) are that many MiB of zeros, in a thousandth of that."""
    size = mebibytes * 2**20
    start = matrix(name=name)[8:-8] if kind != 1 else matrix()[8:-16]
    tag = struct.pack("<II", 14, len(start) + 8 + size)
    return compressed(tag, start, struct.pack("<II", kind, size), *[bytes(2**20)] * mebibytes)


def nested(depth: int) -> bytes:
    """A cell in a cell in a cell."""
    inner = matrix((1, 1), b"\1", name=b"")
    for _ in range(depth):
        inner = matrix((1, 1), flags=CELL)[8:-8] + inner
        inner = struct.pack("<II", 14, len(inner)) + inner
    return inner


def level4(rows: int, columns: int, mopt: int = 50, name_claimed: int = 3, name: bytes = b"ff\0") -> bytes:
    return struct.pack("<5i", mopt, rows, columns, 0, name_claimed) + name + bytes(96)


FIELDS = struct.pack("<i", 32)
FIELD = element(1, b"abc".ljust(32, b"\0"))
SQUARE = (2**14, 2**14)  # a small claim: memory has room for it, and for its consequences
LIES = {
    "the matrix claims 4 GiB": matrix(whole_claimed=MOST),
    "the data claim 4 GiB": matrix(data=b"\1" * 100, claimed=MOST),
    "the data claim 2 GiB": matrix(data=b"\1" * 100, claimed=2**31),
    "the name claims 4 GiB": element(14, matrix()[8:-16] + struct.pack("<II", 1, MOST), MOST),
    "the dimensions claim 4 GiB": element(14, matrix()[8:24] + struct.pack("<II", 5, MOST), MOST),
    "the flags claim 4 GiB": element(14, struct.pack("<II", 6, MOST), MOST),
    "2^40 pixels": matrix((2**20, 2**20), b"\1" * 100),
    "2^62 pixels": matrix((2**31 - 1, 2**31 - 1), b"\1" * 100),
    "a negative number of pixels": matrix((-560, -1965), b"\1" * 100),
    "pixels that are as many, in another shape": matrix((1965, 560), bytes(560 * 1965)),
    "60 axes": matrix((1,) * 60, b"\1"),
    "10,000 axes": matrix((1,) * 10_000, b"\1"),
    "no axes": matrix((), b"\1"),
    "2^28 cells": matrix(SQUARE, flags=CELL),
    "2^40 cells": matrix((2**20, 2**20), flags=CELL),
    "2^28 structs": matrix(SQUARE, FIELDS, flags=STRUCT, kind=5, more=FIELD),
    "2^28 structs without fields": matrix(SQUARE, FIELDS, flags=STRUCT, kind=5, more=element(1, b"")),
    "a struct of nameless fields": matrix((1, 1), bytes(4), flags=STRUCT, kind=5, more=FIELD),
    "2^28 objects": matrix(SQUARE, b"inline", flags=OBJECT, kind=1, more=element(5, FIELDS) + FIELD),
    "2^28 letters": matrix(SQUARE, flags=CHAR, kind=4),
    "2^62 sparse numbers": matrix((2**31 - 1,) * 2, bytes(4), flags=SPARSE, kind=5, more=element(5, bytes(8))),
    "a function": matrix((1, 1), matrix((1, 1), b"\1")[8:], flags=FUNCTION, kind=14),
    "an opaque object": element(14, matrix(flags=OPAQUE)[8:24] + small(1, b"ff") + small(1, b"MCOS") + matrix()),
    "an unknown class": matrix(data=bytes(560), flags=255),
    "complex numbers": matrix(data=bytes(560 * 1965), flags=UINT8 | 0x0800, more=struct.pack("<II", 2, MOST)),
    "floats": matrix(data=bytes(8 * 560), kind=9),
    "data of the type of a matrix": matrix(data=bytes(560), kind=14),
    "data of type 0": matrix(data=bytes(560), kind=0),
    "data of type 2^31 - 1": matrix(data=bytes(560), kind=2**31 - 1),
    "1,000 cells in each other": nested(1000),
    "20,000 cells in each other": nested(20_000) + bytes(8),
    "a bomb of data": bomb(512, 2),
    "a bomb of a name": bomb(512, 1),
    "a bomb in another variable": bomb(512, 2, b"gg") + matrix(data=bytes(560 * 1965)),
    "many small bombs": bomb(7, 2, b"gg") * 100,
    "a compressed element claims 4 GiB": compressed(matrix(), claimed=MOST),
    "compressed data claim 4 GiB": compressed(matrix(data=b"\1" * 100, claimed=MOST)),
    "compressed twice": compressed(compressed(matrix(data=bytes(560 * 1965)))),
    "compressed and cut short": compressed(matrix(data=bytes(560 * 1965)))[:-9],
    "not compressed at all": struct.pack("<II", 15, 100) + b"\x55" * 100,
    "compressed nothing": compressed(b""),
    "zeros": bytes(16),
    "half a tag": b"\x0e\x00\x00",
    "15,000 other variables": matrix((1, 1), b"\1", name=b"x") * 15_000,
    "10 MiB of data": matrix(data=bytes(10 * 2**20)),
    "nothing": b"",
}
FILES = {name: HEADER + body for name, body in LIES.items()} | {
    "empty": b"",
    "half a header": HEADER[:60],
    "level 4, 2^62 numbers": level4(2**31 - 1, 2**31 - 1),
    "level 4, 2^40 numbers": level4(2**20, 2**20),
    "level 4, a negative number": level4(-5, 10),
    "level 4, which reads itself again for ever": level4(-23, 1, mopt=50, name=b"gg\0")[:23],
    "level 4, a name of 2 GiB": level4(2, 2, name_claimed=2**31 - 1),
    "level 4, a name of no size": level4(2, 2, name_claimed=-1),
    "level 4, 2^30 letters": level4(2**15, 2**15, mopt=51),
    "level 4, sparse": level4(4, 3, mopt=2),
    "version 7.3": b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(1000),
}
