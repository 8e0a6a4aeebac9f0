"""Splits: images with their labels, cut into train, val and test."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.errors import DataError
from vaelab.randomness import generator

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass
class Split:
    """Images `[n, *event_shape]` of integer levels, and their labels `[n]`, or None."""

    images: NDArray[np.uint8]
    labels: NDArray[np.integer] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.integer]) -> "Split":
        """Return the examples at these indices, in the order of the indices."""
        return Split(self.images[indices], None if self.labels is None else self.labels[indices])


Splits = dict[SplitName, Split]


def shuffled_split(data: Split, sizes: Sequence[int], seed: int) -> Splits:
    """Permute `data` by `seed`, and cut it into train, val and test.

    Raises:
        DataError: the sizes do not add up to the number of examples.
    """
    order = torch.randperm(len(data), generator=generator("split", seed)).numpy()
    return contiguous_split(data.take(order), sizes)


def contiguous_split(data: Split, sizes: Sequence[int]) -> Splits:
    """Cut `data` into train, val and test in its own order, so that no test frame lies between two training frames.

    Raises:
        DataError: the sizes do not add up to the number of examples.
    """
    if sum(sizes) != len(data):
        raise DataError(f"expected {sum(sizes)} images for a split into {sizes}, found {len(data)}")
    parts = np.split(np.arange(len(data)), np.cumsum(sizes)[:-1])
    return {name: data.take(part) for name, part in zip(SPLITS, parts, strict=True)}


def validate_on_last(train: Split, test: Split, num_val: int) -> Splits:
    """Cut the last `num_val` training examples off for validation, and keep the test set as it is published.

    Raises:
        DataError: there are no more training examples than that, or `num_val` is below 1.
    """
    if not 0 < num_val < len(train):
        raise DataError(
            f"expected num_val from 1 to {len(train) - 1}, because both splits need images, found {num_val}"
        )
    splits = contiguous_split(train, (len(train) - num_val, num_val, 0))
    splits["test"] = test
    return splits


def sizes_of(fractions: Sequence[float], count: int) -> list[int]:
    """Return the sizes of train, val and test, which add up to `count`."""
    ends = np.round(np.cumsum(fractions)[:-1] * count).astype(int)
    return np.diff(ends, prepend=0, append=count).tolist()


def stratified_split(data: Split, seed: int, fractions: Sequence[float] = (0.8, 0.1, 0.1)) -> Splits:
    """Permute and cut `data` by `seed` label by label, so that every split has the same share of each label."""
    assert data.labels is not None
    members: list[list[NDArray[np.integer]]] = []
    for label in np.unique(data.labels):
        own = np.flatnonzero(data.labels == label)
        own = own[torch.randperm(len(own), generator=generator("split", seed, int(label) % 2**64)).numpy()]
        members.append(np.split(own, np.cumsum(sizes_of(fractions, len(own)))[:-1]))
    parts = map(np.concatenate, zip(*members, strict=True))
    return {name: data.take(part) for name, part in zip(SPLITS, parts, strict=True)}


def checked(splits: Any, num_levels: int, source: str) -> Splits:
    """Return the splits. Refuse what is no dict of them, an empty split, and images or labels that do not fit.

    Args:
        splits: what a data set's `splits` returned.
        num_levels: the number of levels of a pixel.
        source: the path of the data set's class.

    Raises:
        DataError: the message says what was expected, and what was found.
    """
    if not isinstance(splits, dict) or {*splits} != {*SPLITS} or not all(isinstance(s, Split) for s in splits.values()):
        found = list(splits) if isinstance(splits, dict) else type(splits).__name__
        expected = "a dict of vaelab.data.Split with the keys train, val and test"
        raise DataError(f"{source}.splits returned {found}: expected {expected}")
    shapes = {split.images.shape[1:] for split in splits.values()}
    for name, split in splits.items():
        if len(split) == 0:
            sizes = {name: len(split) for name, split in splits.items()}
            raise DataError(f"the {name} split would be empty: expected an image or more in each split, found {sizes}")
        if not isinstance(split.images, np.ndarray) or split.images.dtype != np.uint8:
            found = f"{type(split.images).__name__} of {split.images.dtype}"
            raise DataError(f"expected images as a NumPy array of uint8, found a {found} in the {name} split")
        if split.labels is not None and len(split.labels) != len(split):
            raise DataError(f"expected a label for each of {len(split)} images, found {len(split.labels)} in {name}")
        if (largest := split.images.max(initial=0)) >= num_levels:
            raise DataError(f"expected levels below num_levels={num_levels}, found {largest} in the {name} split")
    shape = next(iter(shapes))
    if len(shapes) != 1 or 0 in shape or len(shape) != 3:
        raise DataError(
            "expected one shape of image, [channels, height, width] with no axis of size 0, in all splits, found "
            f"{sorted(shapes)}"
        )
    return splits
