"""The per-example values of an evaluation, which do not depend on the number of processes."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Records:
    """Per-example values by name, stored by block or part of a block.

    A mean is computed in float64 over the examples in the order of their blocks, so that it is equal to the last bit
    whichever process evaluated which block. The first axis of a value is over examples.
    """

    def __init__(self) -> None:
        self.blocks: dict[tuple[int, int], dict[str, Tensor]] = {}  # the values of each block by its key

    def add(self, key: tuple[int, int], values: Mapping[str, Tensor]) -> None:
        """Add the values of a block or of a part of a block. The tensors stay on their device."""
        self.blocks[key] = {name: value.detach() for name, value in values.items()}

    def gather(self) -> None:
        """Exchange the blocks between all processes, if there are several; each of them must call this."""
        if dist.is_available() and dist.is_initialized():
            mine = {key: {name: v.cpu() for name, v in values.items()} for key, values in self.blocks.items()}
            everyones: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(everyones, mine)
            for blocks in everyones:
                self.blocks |= blocks

    @property
    def names(self) -> list[str]:
        """The names of all values, in the order of their first appearance."""
        return list(dict.fromkeys(name for key in sorted(self.blocks) for name in self.blocks[key]))

    def column(self, name: str) -> Tensor:
        """Return all values of a name in the order of their blocks, on the CPU in float64."""
        blocks = [self.blocks[key] for key in sorted(self.blocks)]
        return torch.cat([values[name].double().cpu() for values in blocks if name in values])

    def of_one_number(self) -> "Records":
        """Return only the values that are one number per example."""
        records = Records()
        for key, values in self.blocks.items():
            records.add(key, {name: value for name, value in values.items() if value.dim() == 1})
        return records

    def mean(self, name: str) -> float:
        """Return the mean over examples of the values of a name."""
        return self.column(name).mean().item()
