"""Parameters of a head between two limits."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vaelab.heads.base import Features
from vaelab.networks import Network


class Limited(nn.Module):
    """A number between two limits for each element: `lower + (upper - lower) sigmoid(W h + b + c)`.

    The constant c is such that `W h + b = 0` gives `initial`; near there, the number is about
    `lower + (initial - lower) exp(W h + b)`. A clamp would stop the gradient at the limits, and so would a sigmoid that
    rounds to 1; this does not.

    Args:
        network: the network before the head.
        lower, upper: the limits.
        initial: where training begins, in between.
    """

    above_half: Tensor
    counted: Tensor

    def __init__(self, network: Network, lower: float, upper: float, initial: float) -> None:
        super().__init__()
        self.layer = network.output_layer()
        self.lower, self.size = lower, upper - lower
        share = (initial - lower) / self.size
        self.offset = math.log(share / (1 - share))
        self.register_buffer("above_half", torch.zeros(()), persistent=False)
        self.register_buffer("counted", torch.zeros(()), persistent=False)

    def forward(self, features: Features) -> Tensor:
        """Return the numbers, `[*batch, *event_shape]`."""
        output = self.layer(features) + self.offset
        if self.training:
            with torch.no_grad():
                self.above_half += (output > 0).float().mean()
                self.counted += 1
        return self.lower + self.size * logsigmoid(output).exp()

    def share_at_limit(self) -> Tensor:
        """Return the share of numbers above half of the upper limit since the last call, in training."""
        share = self.above_half / self.counted.clamp_min(1)
        self.above_half.zero_()
        self.counted.zero_()
        return share
