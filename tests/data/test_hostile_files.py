"""Data files that lie about themselves: refused in one line, in bounded memory and time."""

import gzip
import hashlib
import os
import struct
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.helpers import matlab_files
from tests.helpers.bounded import in_bounds
from tests.helpers.matlab_files import HEADER, compressed, element, matrix
from vaelab.data.datasets import frey_face as frey_module
from vaelab.data.datasets.frey_face import read_frames
from vaelab.data.download import fetch, read_idx, regular
from vaelab.data.matlab import read_bytes_matrix
from vaelab.errors import DataError

MOST_MIB = 64  # beyond what the process has; the honest files take about 50

# MATLAB files


@pytest.mark.parametrize("name", list(matlab_files.FILES))
def test_a_matlab_file_that_lies_is_one_data_error_in_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "frey_rawface.mat"
    file.write_bytes(matlab_files.FILES[name])
    found, mebibytes = in_bounds(lambda: read_frames(file))
    assert found.startswith(f"DataError: {file} is not the MATLAB file of Frey Face"), found
    assert "delete it" in found
    assert len(found.splitlines()) == 1
    assert mebibytes < MOST_MIB


@pytest.mark.parametrize("stored", ["plain", "compressed", "long tags", "big-endian", "after others", "before others"])
def test_a_matrix_is_read_however_it_is_stored(stored: str, tmp_path: Path) -> None:
    array = np.arange(15, dtype=np.uint8).reshape(3, 5)
    plain, other = matrix((3, 5), array.tobytes("F")), matrix((1, 1), b"\1", name=b"other name")
    content = {
        "plain": HEADER + plain,
        "compressed": HEADER + compressed(other) + compressed(plain),
        "long tags": HEADER + plain.replace(b"\1\0\2\0ff\0\0", element(1, b"ff")),
        "big-endian": HEADER[:124] + b"\1\0MI" + matrix((3, 5), array.tobytes("F"), order=">"),
        "after others": HEADER + compressed(other) + other + plain,
        "before others": HEADER + plain + compressed(other) + matlab_files.bomb(9, 2, b"gg"),
    }[stored]
    if stored == "long tags":  # the matrix grew by a tag
        content = content.replace(plain[:8], struct.pack("<II", 14, len(plain)), 1)
    (tmp_path / "a.mat").write_bytes(content)
    assert np.array_equal(read_bytes_matrix(tmp_path / "a.mat", "ff", (3, 5)), array)


@settings(max_examples=25)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))),
    st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
    st.booleans(),
)
def test_what_scipy_writes_is_read_as_scipy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, name: str, compress: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "scipy.mat"
    others = {"AA": np.eye(3), "BB": "text", "CC": {"a": [1, 2]}, "DD": np.array([1, "a"], dtype=object)}
    scipy.io.savemat(file, others | {name: array} | {"ZZ": array[:1]}, do_compression=compress)
    assert np.array_equal(read_bytes_matrix(file, name, array.shape), array)
    assert np.array_equal(scipy.io.loadmat(file)[name], array)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_matlab_file_with_other_bytes_somewhere_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, others: bytes
) -> None:
    array = np.arange(15, dtype=np.uint8).reshape(3, 5)
    content = HEADER + matrix((1, 1), b"\1", name=b"other name") + compressed(matrix((3, 5), array.tobytes("F")))
    file = tmp_path_factory.getbasetemp() / "changed.mat"
    file.write_bytes(content[:at] + others + content[at + len(others) :])
    with suppress(ValueError):
        assert read_bytes_matrix(file, "ff", (3, 5)).shape == (3, 5)


# IDX


def gzip_of_zeros(start: bytes, mebibytes: int) -> bytes:
    stream = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    return b"".join([*map(stream.compress, [start, *[zeros] * mebibytes]), stream.flush()])


def idx_header(*sizes: int) -> bytes:
    return b"\x00\x00\x08" + bytes([len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


IDX = {
    "2^40 elements announced": gzip.compress(idx_header(2**20, 2**20)),
    "2^64 elements announced": gzip.compress(idx_header(2**32 - 1, 2**32 - 1)),
    "255 axes": gzip.compress(idx_header(*[1] * 255) + b"\1"),
    "100 axes of 2^32 - 1": gzip.compress(idx_header(*[2**32 - 1] * 100)),
    "no element, though of a vast shape": gzip.compress(idx_header(2**32 - 1, 2**32 - 1, 2**32 - 1, 0)),
    "as many as a larger file could hold": gzip.compress(idx_header(2**17)),
    "a bomb behind a small header": gzip_of_zeros(idx_header(2, 2), 512),
    "a bomb that says what it is": gzip_of_zeros(idx_header(512, 2**20), 512),
    "a bomb without a header": gzip_of_zeros(b"", 512),
    "another checksum": gzip.compress(idx_header(4) + b"\1\2\3\4")[:-8] + bytes(8),
    "another length": gzip.compress(idx_header(4) + b"\1\2\3\4")[:-4] + bytes(4),
    "garbage behind the end": gzip.compress(idx_header(4) + b"\1\2\3\4") + b"garbage",
    "no end": gzip.compress(idx_header(4) + b"\1\2\3\4")[:-8],
}


@pytest.mark.parametrize("name", list(IDX))
def test_an_idx_file_that_lies_is_one_data_error_in_little_memory(name: str, tmp_path: Path) -> None:
    file = tmp_path / "images.gz"
    file.write_bytes(IDX[name])
    found, mebibytes = in_bounds(lambda: read_idx(file))
    assert found.startswith(f"DataError: {file}"), found
    assert "delete it" in found
    assert len(found.splitlines()) == 1
    assert mebibytes < MOST_MIB


def test_no_more_is_decompressed_than_the_header_announces_and_a_byte(tmp_path: Path) -> None:
    file = tmp_path / "images.gz"
    file.write_bytes(gzip_of_zeros(idx_header(2**20), 64))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"more than 1048576 bytes of data, its header announces"):
        read_idx(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_an_idx_file_may_be_as_large_as_the_caller_says(tmp_path: Path) -> None:
    file = tmp_path / "images.gz"
    file.write_bytes(gzip.compress(idx_header(1000) + bytes(1000)))
    assert read_idx(file, at_most=1000).shape == (1000,)
    with pytest.raises(DataError, match="expected 1 to 999 bytes"):
        read_idx(file, at_most=999)
    with pytest.raises(DataError, match="expected at most 5"):
        read_idx(file, at_most=5)


# what is not a regular file


@pytest.fixture(params=["a folder", "a pipe", "a device", "a link to nothing"])
def irregular(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "not_a_file"
    if request.param == "a folder":
        path.mkdir()
    elif request.param == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if request.param == "a device" else tmp_path / "nowhere")
    return path


def test_what_is_not_a_regular_file_is_refused_at_once(irregular: Path) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    for read in (regular, read_idx, read_frames, lambda path: fetch(path, digest, [])):
        found, mebibytes = in_bounds(lambda read=read: read(irregular))
        assert found.startswith("DataError: "), found
        assert "not_a_file" in found
        assert mebibytes < MOST_MIB


def test_a_link_to_a_regular_file_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert regular(tmp_path / "link") == tmp_path / "link"


def test_a_vast_file_in_the_place_of_a_small_one_is_not_read_into_memory(tmp_path: Path) -> None:
    file = tmp_path / "f.gz"
    with file.open("wb") as stream:
        stream.truncate(2**28 + 1)  # a hole: no bytes on the disk
    for read in (read_idx, read_frames):
        found, mebibytes = in_bounds(lambda read=read: read(file))
        assert found.startswith("DataError: "), found
        assert mebibytes < MOST_MIB
    found, mebibytes = in_bounds(lambda: fetch(file, "0" * 64, []))
    assert "is damaged" in found
    assert mebibytes < MOST_MIB


def test_the_memory_that_a_hostile_file_would_take_is_noticed() -> None:
    # the measure itself: a child that takes 100 MiB, one that asks for too much, one that never ends, one that crashes
    assert in_bounds(lambda: len(bytearray(100 * 2**20)))[1] > 90
    assert in_bounds(lambda: len(bytearray(2**30)))[0].startswith("MemoryError")
    with pytest.raises(AssertionError, match="ended with -14"):
        in_bounds(lambda: sum(iter(int, 1)), seconds=1)
    with pytest.raises(AssertionError, match="ended with -6"):
        in_bounds(os.abort)


def test_frames_are_verified_by_what_they_decode_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1965, 560), np.uint8)
    file = tmp_path / "frey_rawface.mat"
    file.write_bytes(HEADER + compressed(matrix(data=frames.tobytes())))
    with pytest.raises(DataError, match="decodes to other data"):
        read_frames(file)
    monkeypatch.setattr(frey_module, "ARRAY_SHA256", hashlib.sha256(frames.tobytes()).hexdigest())
    assert np.array_equal(read_frames(file), frames)
