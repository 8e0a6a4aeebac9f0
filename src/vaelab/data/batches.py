"""Batches as indices: a function of (seed, epoch), shared among the processes with no example lost or repeated."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vaelab.data.splits import SplitName
from vaelab.randomness import generator


@dataclass
class Chunk:
    """Consecutive batches of one epoch: one Lightning step, and one optimiser step for each batch."""

    epoch: int
    first_step: int  # position of the first batch in the epoch
    batches: list[Tensor]  # indices of each batch, this process's share
    sizes: list[int]  # number of examples of each batch, over all processes


@dataclass(eq=False)
class TrainingIndices:
    """The training loader: it orders the examples of each epoch, cuts them into batches and groups these in `Chunk`s.

    The last batch of an epoch may be smaller; it is kept. `batch_size` is global: process `rank` of `world_size` takes
    every `world_size`-th index of each batch. An iteration starts after `steps_done` optimiser steps. The training
    module sets `steps_done` to its own count, so the loader has no state to save.
    """

    num_examples: int
    batch_size: int
    batches_per_chunk: int  # maximum number of batches in a chunk
    seed: int  # the model's seed
    rank: int = 0
    world_size: int = 1
    pause_every: int | None = None  # also end a chunk after every `pause_every` optimiser steps
    device: torch.device | str = "cpu"  # where the indices are
    steps_done: int = 0
    shuffle: bool = True  # False: each epoch has the examples in their own order

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __len__(self) -> int:
        return len(self.chunk_starts)

    @property
    def chunk_starts(self) -> list[int]:
        """The steps at which a chunk begins, counted from the start of the epoch."""
        total = self.batches_per_epoch
        pauses = range(0, total, self.pause_every or total)
        return [s for pause in pauses for s in range(pause, min(pause + pauses.step, total), self.batches_per_chunk)]

    def __iter__(self) -> Iterator[Chunk]:
        # a generator reads steps_done at its first item; Lightning creates the iterator before steps_done is set
        epoch, first = divmod(self.steps_done, self.batches_per_epoch)
        batches = self.order(epoch).to(self.device).split(self.batch_size)
        starts = [first, *(start for start in self.chunk_starts if start > first), len(batches)]
        for start, end in pairwise(starts):
            shares = [batch[self.rank :: self.world_size] for batch in batches[start:end]]
            yield Chunk(epoch, start, shares, [len(batch) for batch in batches[start:end]])

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict; without it, Lightning may warn when a run resumes inside an epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    def order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.num_examples)
        return torch.randperm(self.num_examples, generator=generator("shuffle", self.seed, epoch))


@dataclass
class Block:
    """Consecutive examples that are evaluated together. The block's `number` seeds its draws, whichever process has it.

    A slow estimator also gets a block in parts, so that an interruption costs little.
    """

    number: int  # position of the block in its split
    indices: Tensor  # its examples, as indices into the split
    part: int = 0  # 0 for the whole block; otherwise the number of one of its parts
    rows: slice = field(default_factory=partial(slice, None))  # the rows of `indices` that belong to the part

    @property
    def key(self) -> tuple[int, int]:
        return self.number, self.part

    def __len__(self) -> int:
        return len(self.indices[self.rows])


class Blocks:
    """The evaluation loader: cuts the examples into blocks, in order; rank `rank` gets every `world_size`-th block.

    Every process gets the same number of blocks, because collective operations need all processes. If the blocks
    do not divide evenly, some processes get an empty block. The last block of a split may be smaller. Blocks whose keys
    are in `done` are skipped. With `part_size`, each block is followed by its parts: the same examples again,
    `part_size` at a time.
    """

    def __init__(
        self,
        num_examples: int,
        block_size: int,
        rank: int = 0,
        world_size: int = 1,
        done: Collection[tuple[int, int]] = (),
        part_size: int | None = None,
    ) -> None:
        blocks = []
        for number, indices in enumerate(torch.arange(num_examples).split(block_size)):
            step = part_size or len(indices)
            starts = range(0, len(indices), step) if part_size else ()
            parts = [Block(number, indices, i, slice(s, s + step)) for i, s in enumerate(starts, start=1)]
            blocks += [Block(number, indices), *parts]
        left = [block for block in blocks if block.key not in done]
        empty = [Block(-1, torch.arange(0))] * (-len(left) % world_size)
        self.mine = (left + empty)[rank::world_size]

    def __len__(self) -> int:
        return len(self.mine)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.mine)


@dataclass
class Tested:
    """What the trainer tests."""

    split: SplitName = "test"
    limit: int | None = None  # test the first `limit` examples only
    done: Collection[tuple[int, int]] = ()  # keys of blocks to skip, because their results are known
    part_size: int | None = None  # follow each block by its parts, each of this many examples
