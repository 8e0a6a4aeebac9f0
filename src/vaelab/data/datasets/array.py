"""Load a user's own pictures from a NumPy file or a folder, check every value, and split them by fractions."""

import logging
from collections.abc import Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.data.reading import folders_of, picture_files, read_array, read_pictures
from vaelab.data.splits import Split, Splits, shuffled_split, sizes_of, stratified_split
from vaelab.errors import DataError

log = logging.getLogger(__name__)
Channels = Literal["first", "last"]
OF_SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")  # usual names of their folders


class Array(ImageData):
    """A user's own pictures, shuffled into train, val and test by `seed`; stratified if there are labels.

    Args:
        file: path below `data_dir`, so that a run does not depend on where that folder lies: `FILE.npy`, `FILE.npz` if
            it has one array, `FILE.npz:NAME`, or a folder of pictures of one size, all grey or all in colour, sorted
            by path as text. An array is `[N, H, W]`, `[N, C, H, W]` or `[N, H, W, C]`, with whole numbers
            0 .. num_levels - 1 of any real dtype.
        channels: which axis of 4 holds the channels, `first` for `[N, C, H, W]` or `last` for `[N, H, W, C]`; None: the
            one that has size 1 or 3.
        labels: path of N integers in a .npy or .npz file, likewise; `none` for no labels; or None for those of a folder
            of pictures: the sub-folders by name, if every picture lies in one and there are several. Labels colour
            figures and stratify the split.
        fractions: the shares of train, val and test.
        num_levels: how many values a pixel can have, 2 .. 256. An array of booleans has 2.
        kwargs: see `ImageData`.

    Raises:
        DataError: a file is missing or damaged, its dtype, shape or values are wrong, or a split would be empty.
        ValueError: a path leaves `data_dir`, the fractions do not add up to 1, or `channels` or `num_levels` is none of
            the values above.
    """

    name = "array"

    def __init__(
        self,
        file: str | None = None,
        channels: Channels | None = None,
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
        if channels not in (None, "first", "last"):
            raise ValueError(f"data.channels must be first, last or null, found {channels!r}")
        self.channels: Channels | None = channels
        self.file = _below_data_dir("data.file", file)
        self.by_folder = labels is None
        self.labels_file = None if labels in (None, "none") else _below_data_dir("data.labels", labels)
        self.label_names: list[str] = []  # of labels 0, 1, ... that are sub-folders
        self.fractions = shares.tolist()
        self.num_levels = num_levels
        super().__init__(**kwargs)
        self._warn()

    def splits(self) -> Splits:
        path = Path(self.data_dir) / self.file
        files = picture_files(path) if path.is_dir() else []
        images = self._images(path, files)
        labels = self._labels(path, files, len(images))
        if labels is None:
            return shuffled_split(Split(images), sizes_of(self.fractions, len(images)), self.seed)
        splits = stratified_split(Split(images, labels), self.seed, self.fractions)
        if self.label_names and not all(map(len, splits.values())):
            raise DataError(
                f"{path} has sub-folders of so few pictures that none would be in one of the splits: type "
                "data.labels=none, because sub-folders are labels otherwise"
            )
        return splits

    def record(self) -> dict[str, Any]:
        labels = {"labels": self.label_names} if self.label_names else {}
        return super().record() | {"file": self.file, "fractions": self.fractions} | labels

    def _labels(self, path: Path, files: Sequence[Path], number: int) -> NDArray[np.integer] | None:
        if self.labels_file is not None:
            return _read_labels(Path(self.data_dir) / self.labels_file, number)
        folders = folders_of(files, path) if self.by_folder else []
        self.label_names = sorted({*folders})
        if names := [name for name in self.label_names if name.lower() in OF_SPLITS]:
            raise DataError(
                f"{path} has sub-folders for splits ({', '.join(names)}), expected one for each label: give one of "
                "them as data.file=, or type data.labels=none, and data.fractions= cuts the splits anew"
            )
        return np.array([self.label_names.index(folder) for folder in folders]) if folders else None

    def _images(self, path: Path, files: Sequence[Path]) -> NDArray[np.uint8]:
        if files:
            return _channels_first(_levels(read_pictures(files), path, self.num_levels), "last", path)
        expected = "booleans or integers or real numbers [N, H, W], [N, C, H, W] or [N, H, W, C]"
        array = read_array(path, expected, "biuf", (3, 4))
        return _channels_first(_levels(array, path, self.num_levels), self.channels, path)

    def _warn(self) -> None:
        largest = max(int(split.images.max()) for split in self.split.values())
        if largest <= (self.num_levels - 1) / 2:  # only a warning, because it may be intended
            message = "no pixel is above %d, half of what data.num_levels=%d allows: check data.num_levels"
            log.warning(message, largest, self.num_levels)


def _levels(array: NDArray[Any], path: Path, num_levels: int) -> NDArray[np.uint8]:
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
    return images


def _channels_first(images: NDArray[np.uint8], channels: Channels | None, path: Path) -> NDArray[np.uint8]:
    if images.ndim == 3:
        return images[:, None]
    if channels is None:
        first, last = images.shape[1] in (1, 3), images.shape[3] in (1, 3)
        if first == last:
            raise DataError(
                f"{path} has the shape {images.shape}, which does not say where the channels are: type "
                "data.channels=first for [N, C, H, W], or data.channels=last for [N, H, W, C]"
            )
        channels = "first" if first else "last"
    return images if channels == "first" else np.moveaxis(images, 3, 1)


def _read_labels(path: Path, number: int) -> NDArray[np.integer]:
    labels = np.array(read_array(path, "integers [N]", "iu", (1,)))
    if len(labels) != number:
        raise DataError(f"{path} holds {len(labels)} labels for {number} pictures: expected one for each")
    return labels


def _below_data_dir(key: str, file: str | None) -> str:
    path = PureWindowsPath(file or "")  # knows the separators of all systems: a run folder may move to another
    if path.anchor or not path.parts or ".." in path.parts:
        folder = path.parent.as_posix() if path.is_absolute() or path.root else "FOLDER"
        raise ValueError(
            f"{key} must be a path below data_dir, found {file!r}: type data_dir={folder} "
            f"{key}={path.name or 'mine.npy'}"
        )
    return path.as_posix()
