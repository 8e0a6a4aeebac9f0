"""Load a user's own pictures from a NumPy file, check every value, and split them by fractions."""

import logging
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.data.splits import Split, Splits, shuffled_split, sizes_of, stratified_split
from vaelab.errors import DataError

log = logging.getLogger(__name__)


class Array(ImageData):
    """The pictures of a .npy file, shuffled into train, val and test by `seed`; stratified if there are labels.

    Args:
        file: path below `data_dir`, so that a run does not depend on where that folder lies. The array is `[N, H, W]`
            or `[N, C, H, W]`, with whole numbers 0 .. num_levels - 1 of any real dtype.
        labels: path of N integers in a .npy file, likewise, or None. Labels colour figures and stratify the split.
        fractions: the shares of train, val and test.
        num_levels: how many values a pixel can have, 2 .. 256. An array of booleans has 2.
        kwargs: see `ImageData`.

    Raises:
        DataError: a file is missing or damaged, its dtype, shape or values are wrong, or a split would be empty.
        ValueError: a path leaves `data_dir`, the fractions do not add up to 1, or `num_levels` is out of range.
    """

    name = "array"

    def __init__(
        self,
        file: str | None = None,
        labels: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        num_levels: int = 256,
        **kwargs: Any,
    ) -> None:
        if not (isinstance(num_levels, int) and 2 <= num_levels <= 256):
            raise ValueError(
                "data.num_levels must be a whole number from 2 to 256, since pixels are kept as bytes, "
                f"found {num_levels!r}: type data.num_levels=256"
            )
        shares = np.array(fractions, float)
        if shares.shape != (3,) or not shares.min() > 0 or not np.isclose(shares.sum(), 1):
            raise ValueError(
                "data.fractions must be three numbers above 0 that add up to 1, for train, val and test, "
                f"found {fractions}: type data.fractions=[0.8,0.1,0.1]"
            )
        self.file = _below_data_dir("data.file", file)
        self.labels_file = None if labels is None else _below_data_dir("data.labels", labels)
        self.fractions = shares.tolist()
        self.num_levels = num_levels
        super().__init__(**kwargs)
        self._warn()

    def splits(self) -> Splits:
        images = _levels(Path(self.data_dir) / self.file, self.num_levels)
        if self.labels_file is None:
            return shuffled_split(Split(images), sizes_of(self.fractions, len(images)), self.seed)
        labels = _labels(Path(self.data_dir) / self.labels_file, len(images))
        return stratified_split(Split(images, labels), self.seed, self.fractions)

    def record(self) -> dict[str, Any]:
        return super().record() | {"file": self.file, "fractions": self.fractions}

    def _warn(self) -> None:
        # only warn, because either case may be intended
        largest = max(int(split.images.max()) for split in self.split.values())
        if largest <= (self.num_levels - 1) / 2:
            message = "no pixel is above %d, half of what data.num_levels=%d allows: check data.num_levels"
            log.warning(message, largest, self.num_levels)
        channels, height, width = self.event_shape
        if width in (1, 3, 4) and channels not in (1, 3, 4):
            message = "images are read as %d channels of %d x %d; if channels come last, save numpy.moveaxis(x, 3, 1)"
            log.warning(message, channels, height, width)


def _levels(path: Path, num_levels: int) -> NDArray[np.uint8]:
    array = _opened(path, "booleans or integers or real numbers [N, H, W] or [N, C, H, W]", "biuf", (3, 4))
    if array.dtype.kind == "b" and num_levels != 2:
        raise DataError(f"{path} holds booleans, but data.num_levels is {num_levels}: type data.num_levels=2")
    with np.errstate(invalid="ignore"):
        images = array.astype(np.uint8)  # changes what is not a whole number of 0 .. 255; the next line finds it
    wrong = (images != array) | (images >= num_levels)
    if wrong.any():
        index = tuple(map(int, np.unravel_index(wrong.argmax(), wrong.shape)))
        raise DataError(
            f"{path} holds {array[index]} at {list(index)}, expected whole numbers 0 .. {num_levels - 1} "
            f"(data.num_levels={num_levels}, at most data.num_levels=256): scale the array and round it (if it lies "
            f"between 0 and 1, multiply by {num_levels - 1} and round), and replace NaN and infinity"
        )
    return images if images.ndim == 4 else images[:, None]


def _labels(path: Path, number: int) -> NDArray[np.integer]:
    labels = np.array(_opened(path, "integers [N]", "iu", (1,)))
    if len(labels) != number:
        raise DataError(f"{path} holds {len(labels)} labels for {number} pictures: expected one for each")
    return labels


def _opened(path: Path, expected: str, kinds: str, axes: Sequence[int]) -> NDArray[Any]:
    """Map a .npy file into memory. Refuse an empty array, a `dtype.kind` not in `kinds`, an `ndim` not in `axes`."""
    if not path.is_file():  # reading a pipe or a device might never end
        found = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(
            f"{path} {found}; put the .npy file there, or set data_dir (or VAELAB_DATA_DIR) to the folder that "
            "data.file and data.labels start from"
        )
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy and tokenize each raise errors of their own
        raise DataError(
            f"{path} is not a whole .npy file of numbers (Python objects are never unpickled); expected {expected}: "
            "save the array again with numpy.save"
        ) from error
    if array.dtype.kind not in kinds or array.ndim not in axes or array.size == 0:
        raise DataError(
            f"{path} holds {array.dtype!s:.60} of shape {array.shape}, expected {expected}, with at least one element: "
            "save such an array with numpy.save"
        )
    return array


def _below_data_dir(key: str, file: str | None) -> str:
    path = PureWindowsPath(file or "")  # knows the separators of all systems: a run folder may move to another
    if path.anchor or not path.parts or ".." in path.parts:
        raise ValueError(
            f"{key} must be the path of a .npy file below data_dir, found {file!r}: "
            f"type data_dir=FOLDER {key}={path.name or 'mine.npy'}"
        )
    return path.as_posix()
