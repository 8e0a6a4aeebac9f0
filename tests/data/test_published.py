"""Published files are read as their formats say, tried on small files of the same formats."""

import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from tests.helpers.choices import SMALL
from tests.helpers.commands import composing
from vaelab.data import (
    CIFAR10,
    KMNIST,
    MNIST,
    SVHN,
    Caltech101Silhouettes,
    Downloaded,
    FashionMNIST,
    ImageData,
    Omniglot,
    StaticMNIST,
)
from vaelab.errors import ConfigError, DataError
from vaelab.runs.model import check_parts

Place = Callable[..., ImageData]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """`place(kind, {name: content}, num_val)`: the data set with these files and their SHA-256."""

    def placed(kind: type[Downloaded], files: dict[str, bytes], num_val: int | None = None) -> ImageData:
        assert files.keys() == kind.hashes.keys()
        folder = tmp_path / str(kind.name)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        monkeypatch.setattr(kind, "hashes", digests)
        if issubclass(kind, MNIST) and num_val is not None:
            return kind(data_dir=tmp_path, num_val=num_val)
        if num_val:
            monkeypatch.setattr(kind, "num_val", num_val)
        return kind(data_dir=tmp_path)

    return placed


def drawn(size: int, channels: int, side: int, num_levels: int = 256) -> np.ndarray:
    """Draw images of noise."""
    return np.random.default_rng(size).integers(0, num_levels, (size, channels, side, side), np.uint8)


def binary() -> dict[str, np.ndarray]:
    """Draw three splits of images of 2 levels."""
    return {name: drawn(size, 1, 28, num_levels=2) for name, size in (("train", 9), ("val", 4), ("test", 3))}


def saved(**arrays: Any) -> bytes:
    """Return a .mat file."""
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays)
    return stream.getvalue()


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(b"\x00\x00\x08" + struct.pack(f">B{array.ndim}I", array.ndim, *array.shape) + array.tobytes())


def assert_served(data: ImageData, images: dict[str, np.ndarray], labels: dict[str, Any] | None = None) -> None:
    """Assert that each split holds these images `[N, C, H, W]`, with these labels."""
    assert data.split.keys() == images.keys()
    for name, split in data.split.items():
        assert split.images.dtype == np.uint8
        assert np.array_equal(split.images, images[name])
        if labels is None:
            assert split.labels is None
        else:
            assert split.labels is not None
            assert split.labels.tolist() == list(labels[name])


def cut(train: np.ndarray, test: np.ndarray, num_val: int) -> dict[str, Any]:
    return {"train": train[:-num_val], "val": train[-num_val:], "test": test}


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST, KMNIST])
def test_idx_files_are_cut_as_those_of_mnist(kind: type[MNIST], place: Place) -> None:
    images, labels = drawn(37, 1, 28), np.arange(37, dtype=np.uint8) % 10
    files = {}
    for part, rows in (("train", slice(30)), ("t10k", slice(30, None))):
        files[f"{part}-images-idx3-ubyte.gz"] = idx(images[rows, 0])
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(labels[rows])
    assert kind.num_val == 10_000
    data = place(kind, files, 5)
    assert_served(data, cut(images[:30], images[30:], 5), cut(labels[:30], labels[30:], 5))
    for wrong in (0, 30, 35):
        with pytest.raises(DataError, match=f"expected num_val from 1 to 29, .*found {wrong}"):
            kind(data_dir=data.data_dir, num_val=wrong)


def test_omniglot_is_split_as_in_the_iwae_paper(place: Place) -> None:
    images = drawn(40, 1, 28)
    rows = images.swapaxes(2, 3).reshape(40, 784) / 255  # column by column
    assert Omniglot.num_val == 1345
    data = place(Omniglot, {"chardata.mat": saved(data=rows[:30].T, testdata=rows[30:].T)}, 4)
    order = np.random.RandomState(123).permutation(30)
    assert order[:3].tolist() == [7, 29, 5]  # NumPy promises never to change it
    assert_served(data, cut(images[order], images[30:], 4))


def test_static_mnist_is_read_from_lines_of_digits(place: Place) -> None:
    images, files = binary(), {}
    for name, part in zip(("train", "valid", "test"), images.values(), strict=True):
        lines = [" ".join(map(str, image.flat)) + "\n" for image in part]
        files[f"binarized_mnist_{name}.amat"] = "".join(lines).encode()
    assert_served(place(StaticMNIST, files), images)


def silhouettes(place: Place) -> tuple[ImageData, dict[str, np.ndarray]]:
    images = binary()
    rows = {f"{name}_data": 1 - part.swapaxes(2, 3).reshape(-1, 784) for name, part in images.items()}
    return place(Caltech101Silhouettes, {"caltech101_silhouettes_28_split1.mat": saved(**rows)}), images


def test_silhouettes_are_inverted_and_turned_upright(place: Place) -> None:
    assert_served(*silhouettes(place))


def test_images_of_two_levels_are_binary_and_never_drawn_anew(place: Place) -> None:
    data, images = silhouettes(place)
    for pixels in ("unit", "levels"):
        with pytest.raises(
            ConfigError, match=rf"silhouettes has binary pixels.*models .*{pixels}: type decoder=bernoulli"
        ):
            data.serve(pixels)
    data.serve("binary")
    assert np.array_equal(data.draw("val", torch.arange(4)), images["val"])
    assert "binarize" not in data.record()
    assert data.record()["num_levels"] == 2


def test_pixels_of_binary_images_are_checked_before_any_file_is_read() -> None:
    with pytest.raises(ConfigError, match=r"StaticMNIST has binary pixels.*models .*unit: type decoder=bernoulli"):
        check_parts(composing(*SMALL, "data=static_mnist", "decoder=gaussian"))


def test_cifar10_is_read_from_its_binary_batches(place: Place) -> None:
    images, labels = drawn(18, 3, 32), np.arange(18, dtype=np.uint8) % 10
    records = np.concatenate([labels[:, None], images.reshape(18, -1)], axis=1)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for number, name in enumerate([*(f"data_batch_{n}.bin" for n in (1, 2, 3, 4, 5)), "test_batch.bin"]):
            content = records[3 * number : 3 * number + 3].tobytes()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    assert CIFAR10.num_val == 5000
    data = place(CIFAR10, {"cifar-10-binary.tar.gz": stream.getvalue()}, 2)
    assert_served(data, cut(images[:15], images[15:], 2), cut(labels[:15], labels[15:], 2))


def test_svhn_is_read_with_digit_0_as_label_0(place: Place) -> None:
    parts = {"train": drawn(12, 3, 32), "test": drawn(5, 3, 32)}
    labels = {name: np.arange(1, len(part) + 1) % 10 for name, part in parts.items()}
    files = {
        f"{name}_32x32.mat": saved(X=part.transpose(2, 3, 1, 0), y=np.where(labels[name], labels[name], 10)[:, None])
        for name, part in parts.items()
    }
    assert SVHN.num_val == 5000
    assert_served(place(SVHN, files, 3), cut(parts["train"], parts["test"], 3), cut(labels["train"], labels["test"], 3))
