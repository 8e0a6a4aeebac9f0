"""Batches as indices: a function of (seed, epoch), dealt to the processes without repeating or losing an example."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from vaelab.randomness import generator


@dataclass
class Chunk:
    """Consecutive minibatches of one epoch: the work of one Lightning step, and of many optimiser steps.

    Attributes:
        epoch: which permutation they come from.
        first_step: position in the epoch of the first of them.
        batches: the indices of each, this process's share.
        sizes: how many examples each has over all processes.
    """

    epoch: int
    first_step: int
    batches: list[Tensor]
    sizes: list[int]


class ShuffledIndices:
    """The training loader: each epoch a permutation of the examples, cut into batches, grouped into `Chunk`s.

    The last batch of an epoch may be smaller; it is kept. `batch_size` is global: process `rank` of `world_size` takes
    every `world_size`-th index of each batch. Where an iteration starts is settled by `steps_done` alone, which the
    training module sets to its own count: there is no position to save.

    Args:
        num_examples: size of the split.
        batch_size: examples per optimiser step, over all processes.
        batches_per_chunk: optimiser steps per item, at most.
        seed: the model's seed.
        pause_every: a chunk also ends whenever so many optimiser steps of an epoch are done.
        device: where the indices are wanted.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        batches_per_chunk: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        pause_every: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.batches_per_chunk = batches_per_chunk
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.pause_every = pause_every
        self.device = device
        self.steps_done = 0

    @property
    def batches_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def __len__(self) -> int:
        return len(self.chunk_starts)

    @property
    def chunk_starts(self) -> list[int]:
        """Where the chunks of a whole epoch begin, in optimiser steps."""
        total = self.batches_per_epoch
        pauses = range(0, total, self.pause_every or total)
        return [s for pause in pauses for s in range(pause, min(pause + pauses.step, total), self.batches_per_chunk)]

    def __iter__(self) -> Iterator[Chunk]:
        # lazy: Lightning asks for the iterator before it restores what was done
        epoch, first = divmod(self.steps_done, self.batches_per_epoch)
        batches = self.permutation(epoch).to(self.device).split(self.batch_size)
        starts = [first, *(start for start in self.chunk_starts if start > first), len(batches)]
        for start, end in pairwise(starts):
            shares = [batch[self.rank :: self.world_size] for batch in batches[start:end]]
            yield Chunk(epoch, start, shares, [len(batch) for batch in batches[start:end]])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: that there is a `state_dict` tells Lightning that the loader can go on inside an epoch."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...

    def permutation(self, epoch: int) -> Tensor:
        return torch.randperm(self.num_examples, generator=generator("shuffle", self.seed, epoch))


@dataclass
class Block:
    """A fixed run of examples, the unit of evaluation: its draws are seeded by its `number`, whoever evaluates it.

    Attributes:
        number: of the block in its split.
        indices: its examples.
        part: 0 for the block as a whole; else, for what takes long, the number of a part of it.
        rows: which of the examples that part is of.
    """

    number: int
    indices: Tensor
    part: int = 0
    rows: slice = field(default_factory=partial(slice, None))

    @property
    def key(self) -> tuple[int, int]:
        return self.number, self.part

    def __len__(self) -> int:
        return len(self.indices[self.rows])


class Blocks:
    """The evaluation loader: examples in order, in blocks, every `world_size`-th for process `rank`.

    All processes get as many: where blocks do not divide, some get an empty one, so that none waits for another.

    Args:
        num_examples: of the split, from its beginning.
        block_size: examples in a block; the last may have fewer.
        done: keys of blocks, and of parts, that are not needed again.
        part_size: after each block, its parts of so many examples as well.
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
