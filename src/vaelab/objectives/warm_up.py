"""Schedules of beta, the weight of the KL: functions of the number of optimiser steps taken so far."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.objectives.base import at_least_1

Step = Int[Tensor, ""]
Weight = Float[Tensor, ""]


class LinearWarmUp(nn.Module):
    """A beta that rises linearly from 0 to 1, and stays there: Bowman et al. (2016); Soenderby et al. (2016).

    `beta = min(1, step / steps)`.

    Args:
        steps: the number of optimiser steps until beta is 1.

    Raises:
        ValueError: `steps` is below 1.

    Examples:
        >>> import torch
        >>> [LinearWarmUp(steps=4)(torch.tensor(step)).item() for step in (0, 1, 9)]
        [0.0, 0.25, 1.0]
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        at_least_1(**{"beta.steps": steps})
        self.steps = steps

    def forward(self, step: Step) -> Weight:
        return (step / self.steps).clamp_max(1)


class CyclicalWarmUp(nn.Module):
    """A beta that rises from 0 to 1 again and again: Fu et al. (2019).

    In each cycle of `steps` optimiser steps, beta rises linearly during the first `rising` of them, and is 1 in
    the rest. After `num_cycles` cycles it stays 1.

    Args:
        steps: the length of a cycle.
        num_cycles: the number of cycles.
        rising: the share of a cycle in which beta rises.

    Raises:
        ValueError: a count is below 1, or `rising` does not lie in (0, 1].

    Examples:
        >>> import torch
        >>> [CyclicalWarmUp(steps=4)(torch.tensor(step)).item() for step in (0, 1, 3, 4, 5)]
        [0.0, 0.5, 1.0, 0.0, 0.5]
    """

    def __init__(self, steps: int, num_cycles: int = 4, rising: float = 0.5) -> None:
        super().__init__()
        at_least_1(**{"beta.steps": steps, "beta.num_cycles": num_cycles})
        if not 0 < rising <= 1:
            raise ValueError(f"objective.beta.rising must lie in (0, 1], found {rising}")
        self.steps, self.num_cycles, self.rising = steps, num_cycles, rising

    def forward(self, step: Step) -> Weight:
        position = (step % self.steps) / (self.rising * self.steps)
        return position.clamp_max(1).masked_fill(step >= self.num_cycles * self.steps, 1.0)
