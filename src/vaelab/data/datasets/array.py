"""Load a user's own pictures from a NumPy file, check every value, and split them by fractions."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.data.splits import SPLITS, Split, Splits, shuffled_split, sizes_of, stratified_split
from vaelab.errors import DataError

_PIECE = 2**22  # values that are checked at a time
log = logging.getLogger(__name__)


class Array(ImageData):
    """The pictures of a .npy file, shuffled into train, val and test by `seed`; stratified if there are labels.

    Args:
        file: path below `data_dir`, so that a run does not depend on where that folder lies. The array is `[N, H, W]`
            or `[N, C, H, W]`, with whole numbers 0 .. num_levels - 1 of any real type.
        labels: path of N integers, or None. Labels colour figures and stratify the split.
        fractions: of train, val and test.
        num_levels: how many values a pixel can have, 2 .. 256. An array of booleans has 2.
        kwargs: see `ImageData`.

    Raises:
        DataError: a file is missing, damaged or holds something else, or a split would be empty.
        ValueError: a path leaves `data_dir`, the fractions do not add up to 1, or `num_levels` is out of range.
    """

    def __init__(
        self,
        file: str | None = None,
        labels: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        num_levels: int = 256,
        **kwargs: Any,
    ) -> None:
        whole = isinstance(num_levels, int) and not isinstance(num_levels, bool)
        if not whole or not 2 <= num_levels <= 256:
            raise ValueError(
                "data.num_levels must be a whole number from 2 to 256, since pixels are kept as bytes, "
                f"found {num_levels!r}: type data.num_levels=256"
            )
        self.file = _inside("data.file", file)
        self.labels_file = None if labels is None else _inside("data.labels", labels)
        self.fractions = _fractions(fractions)
        self.num_levels = num_levels
        super().__init__("array", **kwargs)

    def splits(self) -> Splits:
        path = self.data_dir / self.file
        images = read_levels(path, self.num_levels)
        labels = None if self.labels_file is None else read_labels(self.data_dir / self.labels_file, len(images))
        _check_sizes(path, len(images), labels, self.fractions)
        _warn(images, self.num_levels)
        data = Split(images, labels)
        if labels is not None:
            return stratified_split(data, self.seed, self.fractions)
        train, val, test = sizes_of(self.fractions, np.array([len(images)]))[0].tolist()
        return shuffled_split(data, (train, val, test), self.seed)

    def record(self) -> dict[str, Any]:
        return super().record() | {"file": self.file, "fractions": list(self.fractions)}


def read_levels(path: Path, num_levels: int) -> NDArray[np.uint8]:
    """Read the pictures of a .npy file as bytes, `[N, C, H, W]`.

    Raises:
        DataError: see `open_npy`; or a value is not a whole number of 0 .. num_levels - 1.
    """
    array = open_npy(path, ("[N, H, W]", "[N, C, H, W]"), "booleans or integers or real numbers", "biuf")
    if array.dtype.kind == "b" and num_levels != 2:
        raise DataError(f"{path} holds booleans, data.num_levels is {num_levels}: type data.num_levels=2")
    images = np.empty(array.shape, np.uint8)
    step = max(1, _PIECE // math.prod(array.shape[1:]))
    for start in range(0, len(array), step):
        part = np.asarray(array[start : start + step])
        _check_values(part, start, path, num_levels)
        images[start : start + step] = part
    return images if images.ndim == 4 else images[:, None]


def read_labels(path: Path, expected: int) -> NDArray[np.integer]:
    """Read the labels of a .npy file, `[N]`.

    Raises:
        DataError: see `open_npy`; or there are not `expected` of them.
    """
    labels = np.array(open_npy(path, ("[N]",), "integers", "iu"))
    if len(labels) != expected:
        raise DataError(f"{path} holds {len(labels)} labels for {expected} pictures: expected one for each")
    return labels


def open_npy(path: Path, axes: tuple[str, ...], numbers: str, kinds: str) -> NDArray[Any]:
    """Map the array of a .npy file into memory, without unpickling anything.

    Args:
        path: a regular file, or a link to one.
        axes: the shapes that are accepted, such as `[N, H, W]`.
        numbers: the types that are accepted, in words.
        kinds: the same types, as NumPy's `dtype.kind`.

    Raises:
        DataError: the file is missing or damaged, or its array is empty or has other axes or another type.
    """
    if not path.is_file():  # a pipe or a device would not end
        found = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {found}; put the .npy file there, or point data_dir (or VAELAB_DATA_DIR) at its folder"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise TypeError("an archive of arrays")
    except Exception as error:  # NumPy, zipfile and tokenize each raise their own
        raise DataError(
            f"{path} is not a whole .npy file of numbers (Python objects are never unpickled); expected {numbers}: "
            "save the array again with numpy.save"
        ) from error
    if array.dtype.kind not in kinds:
        raise DataError(f"{path} holds {array.dtype!s:.60}, expected {numbers}: save such an array with numpy.save")
    if array.ndim not in [1 + text.count(",") for text in axes] or array.size == 0:
        raise DataError(
            f"{path} has shape {array.shape}, expected {' or '.join(axes)} with at least one number: reshape the array"
        )
    return array


def _inside(key: str, file: object) -> str:
    if not isinstance(file, str) or not file:
        raise ValueError(f"{key} must name a .npy file below data_dir, found {file!r}: type {key}=mine.npy")
    path = PureWindowsPath(os.path.normpath(file))  # which knows the separators of every system: a run folder may move
    if path.anchor or path.parts[:1] in ((), ("..",)):
        instead = f"data_dir=FOLDER {key}={path.name or 'mine.npy'}"
        raise ValueError(f"{key} must be a path below data_dir, found {file!r}: type {instead}")
    return os.path.normpath(file)


def _fractions(values: object) -> tuple[float, float, float]:
    numbers = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else []
    real = all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers)
    if len(numbers) != 3 or not real or not min(numbers) > 0 or not math.isclose(sum(numbers), 1, abs_tol=1e-6):
        raise ValueError(
            "data.fractions must be three numbers above 0 that add up to 1, for train, val and test, "
            f"found {values}: type data.fractions=[0.8,0.1,0.1]"
        )
    return numbers[0], numbers[1], numbers[2]


def _check_sizes(path: Path, n: int, labels: NDArray[np.integer] | None, fractions: tuple[float, ...]) -> None:
    counts = np.array([n]) if labels is None else np.unique(labels, return_counts=True)[1]
    for name, size in zip(SPLITS, sizes_of(fractions, counts).sum(0), strict=True):
        if size == 0:
            cause = "" if labels is None else f", split label by label ({len(counts)} labels)"
            raise DataError(
                f"the {name} split would be empty: {path} holds {n} pictures{cause}, data.fractions are "
                f"{list(fractions)}; give more pictures or a larger fraction{cause and ', or data.labels=null'}"
            )


def _check_values(part: NDArray[Any], start: int, path: Path, num_levels: int) -> None:
    top = num_levels - 1
    for wrong, remedy in (
        (~np.isfinite(part), "leave those pictures out, or replace what is not a number"),
        (part < 0, f"scale the array to 0 .. {top}"),
        (part != np.floor(part), f"if they lie between 0 and 1, multiply by {top} and round"),
        (part > top, "scale the array" + (", or type data.num_levels=256" if num_levels < 256 else "")),
    ):
        if wrong.any():
            index = np.unravel_index(wrong.argmax(), wrong.shape)
            where = [start + int(index[0]), *map(int, index[1:])]
            raise DataError(
                f"{path} holds {part[index]} at {where}, expected whole numbers 0 .. {top} "
                f"(data.num_levels={num_levels}): {remedy}"
            )


def _warn(images: NDArray[np.uint8], num_levels: int) -> None:
    # warn only: both may be meant, but by mistake they spoil the result
    shape, largest = images.shape, int(images.max())
    if largest <= (num_levels - 1) / 2:
        log.warning("no pixel is above %d, half of what data.num_levels=%d allows", largest, num_levels)
    if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4):
        log.warning(
            "an array of shape %s is read as %d channels of %d x %d; if channels come last, numpy.moveaxis(x, 3, 1)",
            *(shape, *shape[1:]),
        )
