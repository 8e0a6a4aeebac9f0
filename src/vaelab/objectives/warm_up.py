"""Schedules of beta, the weight of the KL: functions of the number of optimiser steps taken so far."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.objectives.base import at_least_1

Step = Int[Tensor, ""]
Weight = Float[Tensor, ""]


class LinearWarmUp(nn.Module):
    """A beta that rises linearly from 0 to 1, and stays there: Bowman et al. (2016); Soenderby et al. (2016).

    `beta = min(1, step / num_steps)`.

    Args:
        num_steps: the number of optimiser steps until beta is 1.

    Raises:
        ValueError: `num_steps` is below 1.

    Examples:
        >>> import torch
        >>> [LinearWarmUp(num_steps=4)(torch.tensor(step)).item() for step in (0, 1, 9)]
        [0.0, 0.25, 1.0]
    """

    def __init__(self, num_steps: int) -> None:
        super().__init__()
        at_least_1(**{"beta.num_steps": num_steps})
        self.num_steps = num_steps

    def forward(self, step: Step) -> Weight:
        return (step / self.num_steps).clamp_max(1)


class CyclicalWarmUp(nn.Module):
    """A beta that rises from 0 to 1 again and again: Fu et al. (2019).

    In each cycle of `num_steps` optimiser steps, beta rises linearly during the first `rising` of them, and is 1 in
    the rest. After `num_cycles` cycles it stays 1.

    Args:
        num_steps: the length of a cycle.
        num_cycles: the number of cycles.
        rising: the share of a cycle in which beta rises.

    Raises:
        ValueError: a count is below 1, or `rising` does not lie in (0, 1].

    Examples:
        >>> import torch
        >>> [CyclicalWarmUp(num_steps=4)(torch.tensor(step)).item() for step in (0, 1, 3, 4, 5)]
        [0.0, 0.5, 1.0, 0.0, 0.5]
    """

    def __init__(self, num_steps: int, num_cycles: int = 4, rising: float = 0.5) -> None:
        super().__init__()
        at_least_1(**{"beta.num_steps": num_steps, "beta.num_cycles": num_cycles})
        if not 0 < rising <= 1:
            raise ValueError(f"objective.beta.rising must lie in (0, 1], found {rising}")
        self.num_steps, self.num_cycles, self.rising = num_steps, num_cycles, rising

    def forward(self, step: Step) -> Weight:
        position = (step % self.num_steps) / (self.rising * self.num_steps)
        return position.clamp_max(1).masked_fill(step >= self.num_cycles * self.num_steps, 1.0)
