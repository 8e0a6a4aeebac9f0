"""What an evaluation finds out, example by example: the same numbers whatever the number of processes."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class Records:
    """Per-example values by name, block by block.

    A mean is taken over examples in the order of their blocks, in float64: it does not depend on who evaluated which
    block, to the last bit.

    Attributes:
        blocks: the values of each block, by its number; the first axis of each is over examples.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, dict[str, Tensor]] = {}

    def add(self, number: int, values: Mapping[str, Tensor]) -> None:
        """Takes the values of a block; they stay on their device until they are asked for."""
        self.blocks[number] = {name: value.detach() for name, value in values.items()}

    def gather(self) -> None:
        """Shares the blocks among the processes of a group, if there is one; each of them must call it."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return
        mine = {number: {name: v.cpu() for name, v in values.items()} for number, values in self.blocks.items()}
        everyones: list[dict[int, dict[str, Tensor]] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, mine)
        for blocks in everyones:
            self.blocks |= blocks or {}

    @property
    def names(self) -> list[str]:
        """Of all values, in the order in which the first block has them."""
        return list(self.blocks[min(self.blocks)]) if self.blocks else []

    def column(self, name: str) -> Tensor:
        """All values of a name, in the order of their blocks, on the CPU and in float64."""
        return torch.cat([self.blocks[number][name].double().cpu() for number in sorted(self.blocks)])

    def mean(self, name: str) -> float:
        """Over examples."""
        return self.column(name).mean().item()
