"""Parameters of a head between two limits."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from vaelab.heads.base import Features
from vaelab.networks import Network

LOG_ODDS = math.log(99)  # of a sigmoid that is within 1 % of 1


class Limited(nn.Module):
    """A number between two limits for each element: `lower + (upper - lower) sigmoid(W h + b + c)`.

    The constant c is such that `W h + b = 0` gives `initial`; near there, the number is about
    `lower + (initial - lower) exp(W h + b)`. The gradient becomes small near the limits, but not 0 as that of a clamp.

    Args:
        network: the network before the head.
        lower, upper: the limits.
        initial: where training begins, in between.
    """

    at_limit: Tensor
    counted: Tensor

    def __init__(self, network: Network, lower: float, upper: float, initial: float) -> None:
        super().__init__()
        self.layer = network.output_layer()
        self.lower, self.size = lower, upper - lower
        share = (initial - lower) / self.size
        self.offset = math.log(share / (1 - share))
        self.register_buffer("at_limit", torch.zeros(()), persistent=False)
        self.register_buffer("counted", torch.zeros(()), persistent=False)

    def forward(self, features: Features) -> Tensor:
        """Return the numbers, `[*batch, *event_shape]`."""
        output = self.layer(features) + self.offset
        if self.training:
            with torch.no_grad():
                near = (output > LOG_ODDS) | (output - self.offset < -LOG_ODDS)
                self.at_limit += near.float().mean()
                self.counted += 1
        return self.lower + self.size * logsigmoid(output).exp()

    def share_at_limit(self) -> Tensor:
        """Return the share of numbers near a limit since the last call, in training.

        That is within 1 % of the range below `upper`, or of the range from `lower` to `initial` above `lower`.
        """
        share = self.at_limit / self.counted.clamp_min(1)
        self.at_limit.zero_()
        self.counted.zero_()
        return share
