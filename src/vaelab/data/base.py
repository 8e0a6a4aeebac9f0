"""The base class of the data modules: images in memory, split, recorded, and drawn as the pixels that a head models."""

import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from vaelab.data.batches import Block, Blocks, Chunk, Tested, TrainingIndices
from vaelab.data.binarizing import binarized
from vaelab.data.splits import SPLITS, SplitName, Splits, checked
from vaelab.errors import ConfigError, check_count
from vaelab.pixels import MEASURES, check_pixels
from vaelab.randomness import seed_draws

BLOCK_SIZE = 100


@dataclass(eq=False, repr=False)
class ImageData(LightningDataModule):
    """Images of integer levels, kept in memory as bytes; batches are indices into them.

    A subclass implements `splits()`. The decoder's head decides which pixels are drawn, on the device with the bytes:

    - `binary`: {0, 1}, by `binarize`: `dynamic` (1 with probability level / (num_levels - 1), resampled at every
      draw), `threshold` (1 if level / (num_levels - 1) > 0.5) or `fixed` (sampled once, by `seed`);
    - `unit`: `(level + u) / num_levels` with u uniform on [0, 1), which is uniform dequantisation into (0, 1);
    - `levels`: the integers 0 .. num_levels - 1.

    Images of 2 levels are binary: they are drawn as they are, and other pixels are refused.

    The constructor reads the images, after a download and a check where they come from elsewhere. So
    `FreyFace().draw("test", range(16), pixels="unit")` is enough.

    Args:
        binarize: see above; matters for `binary` pixels only.
        seed: seed of the split, the fixed binarisation and the draws of evaluation; not the model's seed.
        pixels: one of the three above, or None for those that the decoder's head asks for.
        data_dir: folder of the data files; by default that in `$VAELAB_DATA_DIR`, or else `data`.
        shuffle: whether the training examples are permuted anew in each epoch, or always come in their own order.
        train_limit: train on only this many examples, from the first on; None: on all.
        batch_size: examples per optimiser step, over all processes.
        batches_per_chunk: maximum number of optimiser steps per Lightning step; None: the training module chooses it.
        shuffle_seed: seed of the order of the training data; it is the model's seed.
        pause_every: also end a Lightning step after every `pause_every` optimiser steps of an epoch; None: do not.

    Attributes:
        name: name of the data set in records, a class attribute.
        num_levels: how many values a stored pixel can have, also a class attribute.
        verified: whether every `data_dir` gives the same data, because files are verified or installed; also a class
            attribute. A finished run compares other data with its record.
        event_shape: shape of one image, `[channels, height, width]`.
        split: the images of each split as bytes, with their labels.
        tested: what the trainer tests.

    Raises:
        DataError: a split is empty, or the images are not `uint8` of one shape.
        ValueError: `binarize` is unknown, `shuffle` is neither true nor false, or `train_limit` is not a number of
            training examples.
    """

    num_levels = 256
    verified = False

    seed: int = 0
    binarize: Literal["dynamic", "threshold", "fixed"] = "dynamic"
    pixels: str | None = None
    data_dir: str | Path = field(default_factory=lambda: os.environ.get("VAELAB_DATA_DIR", "data"))
    shuffle: bool = True
    train_limit: int | None = None
    batch_size: int = 100
    batches_per_chunk: int | None = 1
    shuffle_seed: int = 0
    pause_every: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        if self.binarize not in ("dynamic", "threshold", "fixed"):
            raise ValueError(f"data.binarize must be dynamic, threshold or fixed, found {self.binarize!r}")
        if not isinstance(self.shuffle, bool):
            raise ValueError(f"data.shuffle must be true or false, found {self.shuffle!r}")
        self.data_dir = Path(self.data_dir).expanduser()
        self.device = torch.device("cpu")
        self._others: dict[str, ImageData] = {}
        self.tested = Tested()
        self.split = checked(self.splits(), self.num_levels, f"{type(self).__module__}.{type(self).__name__}")
        if self.train_limit is not None:
            check_count("data.train_limit", self.train_limit)
            if self.train_limit > self.num_train:
                raise ValueError(f"data.train_limit must be at most {self.num_train:,}, found {self.train_limit:,}")
            self.split["train"] = self.split["train"].take(np.arange(self.train_limit))
        self.event_shape = tuple(self.split["train"].images.shape[1:])

    def splits(self) -> Splits:
        """Return the train, val and test splits. The same `self.seed` must give the same splits."""
        raise NotImplementedError

    def serve(self, pixels: str) -> None:
        """Prepare the tensors that `draw` reads, for a head that models `pixels`.

        Raises:
            ConfigError: `pixels` is not one of the three kinds, or not the one kind that the images have.
        """
        check_pixels(pixels, str(self.name), self.num_levels)
        self.pixels = self._drawn = pixels
        self.images = {name: torch.tensor(np.ascontiguousarray(split.images)) for name, split in self.split.items()}
        if self.is_binary:
            self._drawn = "levels"
        elif pixels == "binary" and self.binarize != "dynamic":
            self._drawn, how = "levels", (self.num_levels, self.binarize, self.seed)
            self.images = {name: binarized(self.images[name], *how, i) for i, name in enumerate(self.images)}
        self.to(self.device)

    @cached_property
    def images(self) -> dict[SplitName, Tensor]:
        """The levels of each split that `draw` reads, on the device. `serve` prepares them, at the latest here."""
        if self.pixels is None and not self.is_binary:
            *most, last = map(repr, MEASURES)
            raise ConfigError(f"{self.name} can be drawn as several pixels: give pixels={', '.join(most)} or {last}")
        self.serve(self.pixels or "binary")
        return self.images

    @property
    def is_binary(self) -> bool:
        """Whether the images have 2 levels, so that there is nothing to binarise."""
        return self.num_levels == 2

    @property
    def max_pixel(self) -> float:
        """Largest value of a drawn pixel."""
        return self.num_levels - 1 if self.pixels == "levels" else 1

    @property
    def num_train(self) -> int:
        """Number of training examples."""
        return len(self.split["train"])

    def draw(self, split: SplitName, indices: Tensor | Sequence[int], pixels: str | None = None) -> Tensor:
        """Draw the pixels of examples, floats `[len(indices), *event_shape]`, from the device's generator.

        Args:
            split: `train`, `val` or `test`.
            indices: which examples of the split.
            pixels: draw this kind of pixels, whatever these data serve; None for the kind that they serve.

        Raises:
            ConfigError: these data serve no pixels yet, and `pixels` is None; or the images do not have these pixels.
        """
        if pixels not in (None, self.pixels):
            return self._serving(pixels).draw(split, indices)
        levels = self.levels(split, indices if isinstance(indices, Tensor) else torch.as_tensor(indices))
        return self.pixels_from(levels, self.noise(levels))

    def labels(self, split: SplitName, indices: Tensor | Sequence[int] | None = None) -> Tensor | None:
        """Return the labels of examples, by default of the whole split; None if the data have no labels."""
        labels, some = self.split[split].labels, slice(None) if indices is None else torch.as_tensor(indices)
        return None if labels is None else torch.tensor(labels)[some]

    def _serving(self, pixels: str) -> "ImageData":
        """Return a copy that shares the images, and serves other pixels; it is made once."""
        if pixels not in self._others:
            other = copy(self)
            other.serve(pixels)
            self._others[pixels] = other
        return self._others[pixels]

    def levels(self, split: SplitName, indices: Tensor) -> Tensor:
        """Return the stored bytes of examples, which `noise` and `pixels_from` turn into pixels."""
        images = self.images[split]
        return images.index_select(0, indices.to(images.device))

    def noise(self, levels: Tensor, stream: torch.Generator | None = None) -> Tensor:
        """Draw the noise for `pixels_from`: 16 bits per binary pixel, a uniform u per unit pixel, else nothing."""
        if self._drawn == "levels":
            return levels.new_empty(0)
        if self._drawn == "unit":
            return torch.rand(levels.shape, generator=stream, device=levels.device)
        # draw 64 bits at a time and cut each into four integers of 0 .. 2^16 - 1, because drawing is the slow part
        whole = torch.empty(-(-levels.numel() // 4), dtype=torch.int64, device=levels.device)
        whole.random_(-(2**63), None, generator=stream)
        return whole.view(torch.uint16)[: levels.numel()].view(levels.shape)

    def pixels_from(self, levels: Tensor, noise: Tensor) -> Tensor:
        """Return pixels, a function of the stored bytes and `noise`."""
        if self._drawn == "levels":
            return levels.float()
        if self._drawn == "unit":
            # keep 0 and 1 out: u = 0 on level 0 gives 0, and float32 rounds 255.99999 / 256 up to 1
            return ((levels + noise) / self.num_levels).clamp(2.0**-24, 1 - 2.0**-24)
        # a uniform 16-bit integer is below 2^16 level / (num_levels - 1) with the wanted probability, up to 2^-16
        return noise.float().lt_(levels * (2**16 / (self.num_levels - 1)))

    def draw_block(self, split: SplitName, block: Block, again: int = 0) -> Tensor:
        """Draw the pixels of a block, seeded from `seed`, the split, `block.number` and the repeat `again`."""
        key = (again,) if again else ()
        seed_draws(self.images[split].device, "pixels", self.seed, SPLITS.index(split), block.number, *key)
        return self.draw(split, block.indices)

    def draw_some(self, count: int) -> Tensor:
        """Draw the pixels of training examples, chosen at random, none twice before each was chosen once."""
        orders = [torch.randperm(self.num_train) for _ in range(-(-count // self.num_train))]
        return self.draw("train", torch.cat(orders)[:count])

    def record(self) -> dict[str, Any]:
        """Return, as plain data, the protocol, seed, shapes, sizes and a SHA-256 of the bytes of each split."""
        sizes = {name: len(split) for name, split in self.split.items()}
        binary = self.pixels == "binary" and not self.is_binary
        protocol = {"pixels": self.pixels} | ({"binarize": self.binarize} if binary else {})
        digest = {name: sha256(images.numpy(force=True).data).hexdigest() for name, images in self.images.items()}
        shape = {"event_shape": list(self.event_shape), "num_levels": self.num_levels}
        return {"name": self.name, "seed": self.seed, **protocol, **shape, "sizes": sizes, "sha256": digest}

    def to(self, device: torch.device) -> None:
        """Move the bytes to the device that draws from them."""
        self.device, self._others = device, {}  # drop copies that are on the former device
        self.images = {name: images.to(device) for name, images in self.images.items()}

    @property
    def batches_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch."""
        return -(-self.num_train // self.batch_size)

    def train_dataloader(self) -> TrainingIndices:
        """Return the loader of training batches, as indices."""
        rank, world_size = self._process()
        sizes = (self.num_train, self.batch_size, self.batches_per_chunk or 1)
        where = (rank, world_size, self.pause_every, self.device)
        return TrainingIndices(*sizes, self.shuffle_seed, *where, shuffle=self.shuffle)

    def val_dataloader(self) -> Blocks:
        """Return the loader of validation blocks."""
        return self.blocks("val")

    def test_dataloader(self) -> Blocks:
        """Return the loader of the blocks that `tested` names."""
        return Blocks(self.num_tested, BLOCK_SIZE, *self._process(), self.tested.done, self.tested.part_size)

    @property
    def num_tested(self) -> int:
        """Number of examples that are tested."""
        size = len(self.split[self.tested.split])
        return min(size, self.tested.limit or size)

    def blocks(self, split: SplitName) -> Blocks:
        """Return this process's share of the blocks of a split."""
        return Blocks(len(self.split[split]), BLOCK_SIZE, *self._process())

    def tested_blocks(self, part_size: int | None = None) -> Blocks:
        """Return all blocks that are tested, over all processes."""
        return Blocks(self.num_tested, BLOCK_SIZE, part_size=part_size)

    def transfer_batch_to_device(self, batch: Chunk | Block, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the indices where they are, because `draw` moves them."""
        return batch

    def _process(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
