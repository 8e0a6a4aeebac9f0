"""Data files are found, fetched from mirrors, verified, or refused with what to do."""

import gzip
import hashlib
import re
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

from vaelab import data as data_sets
from vaelab.data import MNIST, Downloaded, FreyFace, ImageData, MNIST5k
from vaelab.data.download import fetch
from vaelab.errors import DataError

PUBLISHED = [kind for kind in vars(data_sets).values() if isinstance(kind, type) and issubclass(kind, Downloaded)]
CONTENT = b"the bytes of a data file"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MIRRORS = ["https://one.example/a/f.gz", "https://two.example/b/f.gz", "https://three.example/f.gz"]
PAGE = b"<html>403 Forbidden</html>"


class Mirrors:
    """A stand-in for `pooch.retrieve` that records the URLs, and answers each with a file or an error."""

    def __init__(self, answers: dict[str, bytes | Exception]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, url: str, known_hash: str, fname: str, path: Path) -> str:
        self.asked.append(url)
        answer = self.answers.get(url, requests.ConnectionError("unreachable"))
        if isinstance(answer, Exception):
            raise answer
        if hashlib.sha256(answer).hexdigest() != known_hash:
            raise ValueError("hash of downloaded file does not match")  # as pooch does
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(answer)
        return str(path / fname)


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mirrors]:
    def answer(answers: dict[str, bytes | Exception]) -> Mirrors:
        stand_in = Mirrors(answers)
        monkeypatch.setattr(pooch, "retrieve", stand_in)
        return stand_in

    return answer


def images(data: ImageData) -> np.ndarray:
    return np.concatenate([split.images for split in data.split.values()])


# fetch


def test_a_file_in_place_is_used_without_a_network(tmp_path: Path, mirrors: Any) -> None:
    (tmp_path / "f.gz").write_bytes(CONTENT)
    asked = mirrors({}).asked
    assert fetch(tmp_path / "f.gz", SHA256, MIRRORS) == tmp_path / "f.gz"
    assert asked == []


def test_an_md5_is_enough_where_only_that_is_published(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(CONTENT)
    known = "md5:" + hashlib.md5(CONTENT).hexdigest()
    assert fetch(tmp_path / "f.gz", known, MIRRORS) == tmp_path / "f.gz"
    (tmp_path / "f.gz").write_bytes(PAGE)
    with pytest.raises(DataError, match=f"f.gz is damaged: expected MD5 {known[4:]}, found .*delete it"):
        fetch(tmp_path / "f.gz", known, MIRRORS)


@pytest.mark.parametrize("failure", [requests.HTTPError("403"), TimeoutError(), PAGE])
def test_the_second_mirror_is_asked_when_the_first_fails(failure: Any, tmp_path: Path, mirrors: Any) -> None:
    asked = mirrors({MIRRORS[0]: failure, MIRRORS[1]: CONTENT}).asked
    assert fetch(tmp_path / "deep" / "f.gz", SHA256, MIRRORS).read_bytes() == CONTENT
    assert asked == MIRRORS[:2]


def test_without_a_network_the_error_names_file_and_folder(tmp_path: Path, mirrors: Any) -> None:
    asked = mirrors({}).asked
    with pytest.raises(DataError) as caught:
        fetch(tmp_path / "mnist" / "f.gz", SHA256, MIRRORS)
    assert asked == MIRRORS
    for part in ("f.gz", str(tmp_path / "mnist"), "VAELAB_DATA_DIR", "data=mnist5k", "ConnectionError at two.example"):
        assert part in str(caught.value)


def test_pooch_verifies_what_a_mirror_sends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real pooch, on local files
    answers = {"http://one/f": PAGE, "http://two/f": CONTENT}

    def write(url: str, output_file: Any, _pooch: Any) -> None:
        Path(output_file).write_bytes(answers[url])

    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar=False: write)
    assert fetch(tmp_path / "got" / "f.gz", SHA256, list(answers)).read_bytes() == CONTENT
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(tmp_path / "other" / "f.gz", SHA256, ["http://one/f"])
    assert not (tmp_path / "other" / "f.gz").exists()


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, mirrors: Any) -> None:
    (tmp_path / "f.gz").write_bytes(CONTENT[:-1])
    asked = mirrors(dict.fromkeys(MIRRORS, CONTENT)).asked
    with pytest.raises(DataError, match=r"f.gz is damaged: expected SHA-256 .* found .*delete it.*data=mnist5k"):
        fetch(tmp_path / "f.gz", SHA256, MIRRORS)
    assert (tmp_path / "f.gz").read_bytes() == CONTENT[:-1]
    assert asked == []


# MNIST


def idx(array: np.ndarray) -> bytes:
    return b"\x00\x00\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture(scope="session")
def small_mnist() -> dict[str, bytes]:
    """Four files in the format of MNIST, with 60 training images and 30 test images of 2 x 2 pixels."""
    rng = np.random.default_rng(0)
    files = {}
    for part, size in (("train", 60), ("t10k", 30)):
        arrays = rng.integers(0, 256, (size, 2, 2), np.uint8), np.arange(size, dtype=np.uint8) % 10
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays, strict=True):
            files[f"{part}-{kind}-ubyte.gz"] = gzip.compress(idx(array), compresslevel=1)
    return files


@pytest.fixture
def mnist_here(small_mnist: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with these files, and their SHA-256 in place of MNIST's."""
    (tmp_path / "mnist").mkdir()
    for name, content in small_mnist.items():
        (tmp_path / "mnist" / name).write_bytes(content)
        monkeypatch.setitem(MNIST.hashes, name, hashlib.sha256(content).hexdigest())
    return tmp_path


def test_mnist_never_trains_on_a_test_image(mnist_here: Path, small_mnist: dict[str, bytes]) -> None:
    data = MNIST(data_dir=mnist_here, num_val=10)
    assert [len(split) for split in data.split.values()] == [50, 10, 30]
    parts = [gzip.decompress(small_mnist[f"{part}-images-idx3-ubyte.gz"])[16:] for part in ("train", "t10k")]
    assert images(data).tobytes() == b"".join(parts)


def test_a_bad_file_of_mnist_is_named(mnist_here: Path) -> None:
    file = mnist_here / "mnist" / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is damaged.*delete it"):
        MNIST(data_dir=mnist_here, num_val=10)
    file.unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz is not in .*put the file there"):
        MNIST(data_dir=mnist_here, num_val=10)


def test_mnist_is_fetched_from_the_second_host(small_mnist: dict[str, bytes], mnist_here: Path, mirrors: Any) -> None:
    shutil.rmtree(mnist_here / "mnist")
    second = MNIST.mirrors[1]
    asked = mirrors({second + name: content for name, content in small_mnist.items()}).asked
    assert len(MNIST(data_dir=mnist_here, num_val=10).split["test"]) == 30
    assert sorted(asked) == sorted(m + name for m in MNIST.mirrors[:2] for name in small_mnist)


@pytest.mark.parametrize("kind", [kind for kind in PUBLISHED if kind is not Downloaded])
def test_every_file_has_several_hosts_and_a_hash(kind: type[Downloaded]) -> None:
    assert len({address.split("/")[2] for address in kind.mirrors}) >= 2
    assert all(address.endswith("/") for address in kind.mirrors)
    for known in kind.hashes.values():
        assert re.fullmatch(r"[0-9a-f]{64}|md5:[0-9a-f]{32}", known)


@pytest.mark.slow
def test_real_mnist_decodes_to_its_published_digits(data_dir: Path) -> None:
    data = MNIST(data_dir=data_dir)
    assert data.event_shape == (1, 28, 28)
    assert [len(split) for split in data.split.values()] == [50_000, 10_000, 10_000]
    raw = gzip.decompress((data_dir / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    assert data.split["test"].images.tobytes() == raw[16:]
    labels = data.split["train"].labels
    assert labels is not None
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # as LeCun's page shows them
    # mean and standard deviation of the 60,000 training images, as printed all over the literature
    pixels = images(data)[:60_000] / 255
    assert (round(pixels.mean(), 4), round(pixels.std(), 4)) == (0.1307, 0.3081)


@pytest.mark.slow
def test_the_embedded_digits_are_digits_of_mnist(data_dir: Path) -> None:
    known = {image.tobytes() for image in images(MNIST(data_dir=data_dir))}
    assert all(image.tobytes() in known for image in images(MNIST5k()))


# Frey Face


@pytest.fixture
def frey_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 1965 frames of noise in the format of Frey Face, and their SHA-256 in place of its own."""
    frames = np.random.default_rng(0).integers(0, 256, (560, 1965), np.uint8)
    file = tmp_path / "frey_face" / "frey_rawface.mat"
    file.parent.mkdir()
    scipy.io.savemat(file, {"ff": frames})
    monkeypatch.setattr(FreyFace, "hashes", {file.name: hashlib.sha256(file.read_bytes()).hexdigest()})
    return tmp_path


def test_film_order_keeps_the_frames_contiguous(frey_here: Path) -> None:
    frames = scipy.io.loadmat(frey_here / "frey_face" / "frey_rawface.mat")["ff"].T.reshape(-1, 1, 28, 20)
    film, one, two = (
        FreyFace(**options, data_dir=frey_here) for options in ({"order": "film"}, {"seed": 1}, {"seed": 2})
    )
    assert [len(split) for split in film.split.values()] == [1565, 200, 200]
    assert np.array_equal(images(film), frames)
    for shuffled in (one, two):
        assert not np.array_equal(images(shuffled), frames)
        assert sorted(image.tobytes() for image in images(shuffled)) == sorted(image.tobytes() for image in frames)
    assert not np.array_equal(images(one), images(two))
    film.serve("unit")
    assert film.record()["order"] == "film"
    with pytest.raises(ValueError, match=r"shuffled or film, found 'random'"):
        FreyFace(order="random", data_dir=frey_here)  # type: ignore[arg-type]


def test_real_frey_face_decodes_to_1965_frames_of_a_film(data_dir: Path) -> None:
    data = FreyFace(order="film", data_dir=data_dir)
    frames = images(data)
    assert frames.shape == (1965, 1, 28, 20)
    found = hashlib.sha256(frames.tobytes()).hexdigest()
    assert found == "2438ba4f0d2a6bd8bac43de756141eaa33c8d248dd613d464bdb1210d9b7af78"
    assert all(split.labels is None for split in data.split.values())
    # a frame is nearer to the next one than to one far away
    levels = frames.astype(float)
    neighbours = np.abs(levels[1:] - levels[:-1]).mean()
    assert neighbours < 0.6 * np.abs(levels[500:] - levels[:-500]).mean()
