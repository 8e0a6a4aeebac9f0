"""The beta distribution."""

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions.intervals import inside


class Beta(td.Beta):
    """`torch.distributions.Beta`, with a log-density that is computed in float64, and finite at 0 and 1.

    `log p(x) = (a - 1) log x + (b - 1) log(1 - x) - log B(a, b)`. The terms of a narrow density cancel, so float32
    would lose its digits. At 0 and at 1, where a density may be 0 or infinite, `log_prob` is that of the nearest number
    inside.

    Examples:
        >>> Beta(torch.tensor(0.5), torch.tensor(0.5)).log_prob(torch.tensor([0.0, 0.5, 1.0]))
        tensor([42.5235, -0.4516,  7.1730])
    """

    def log_prob(self, value: Tensor) -> Tensor:
        a, b, x = self.concentration1.double(), self.concentration0.double(), inside(value).double()
        log_normaliser = torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
        return ((a - 1) * x.log() + (b - 1) * torch.log1p(-x) - log_normaliser).to(self.concentration1.dtype)
