"""What an evaluation finds out, example by example: the same numbers whatever the number of processes."""

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor


class Records:
    """Per-example values by name, block by block, some of them part by part.

    A mean is taken over examples in the order of their blocks, in float64: it does not depend on who evaluated which
    block, to the last bit.

    Attributes:
        blocks: the values of each block, by its key; the first axis of each is over examples.
    """

    def __init__(self) -> None:
        self.blocks: dict[tuple[int, int], dict[str, Tensor]] = {}

    def add(self, key: tuple[int, int], values: Mapping[str, Tensor]) -> None:
        """Takes the values of a block, or of a part of it; they stay on their device until they are asked for."""
        self.blocks[key] = {name: value.detach() for name, value in values.items()}

    def gather(self) -> None:
        """Shares the blocks among the processes of a group, if there is one; each of them must call it."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return
        mine = {key: {name: v.cpu() for name, v in values.items()} for key, values in self.blocks.items()}
        everyones: list[dict[tuple[int, int], dict[str, Tensor]] | None] = [None] * dist.get_world_size()
        dist.all_gather_object(everyones, mine)
        for blocks in everyones:
            self.blocks |= blocks or {}

    @property
    def names(self) -> list[str]:
        """Of all values, in the order in which the first blocks have them."""
        return list(dict.fromkeys(name for key in sorted(self.blocks) for name in self.blocks[key]))

    def column(self, name: str) -> Tensor:
        """All values of a name, in the order of their blocks, on the CPU and in float64."""
        blocks = [self.blocks[key] for key in sorted(self.blocks)]
        return torch.cat([values[name].double().cpu() for values in blocks if name in values])

    def mean(self, name: str) -> float:
        """Over examples."""
        return self.column(name).mean().item()
