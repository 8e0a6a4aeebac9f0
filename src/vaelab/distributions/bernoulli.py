"""The joint distribution of an event's Bernoulli elements."""

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

AT_ONCE = 1000  # elements in one product; each factor is at least 1/2, so that it is above float64's least, 2^-1022


class IndependentBernoulli(td.Independent):
    """`torch.distributions.Independent` over `torch.distributions.Bernoulli`, with a faster `log_prob`.

    `log p(x) = sum_i (x_i l_i - max(l_i, 0)) + log prod_i sigmoid(|l_i|)`, with the logits l. The product needs one
    logarithm instead of one for each element. The value x is a constant: it gets no gradient.

    Examples:
        >>> p = IndependentBernoulli(td.Bernoulli(logits=torch.zeros(5, 28, 28)), 2)
        >>> p.log_prob(torch.ones(28, 28)).exp2()[0] == 0.5 ** 784
        tensor(True)
    """

    base_dist: td.Bernoulli

    def log_prob(self, value: Tensor) -> Tensor:
        logits = self.base_dist.logits
        logits = logits.expand(torch.broadcast_shapes(logits.shape, value.shape))
        dims = self.reinterpreted_batch_ndims
        return _LogProb.apply(logits.flatten(-dims), value.flatten(-dims))  # type: ignore[return-value]


class _LogProb(torch.autograd.Function):
    """The sum over the last axis, with the gradient `x - sigmoid(l)`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, value: Tensor) -> Tensor:
        cost = logits.relu().addcmul_(logits, value, value=-1).sum(-1)
        factors = logits.abs().sigmoid_().split(AT_ONCE, -1)
        return sum(some.prod(-1, dtype=torch.float64).log() for some in factors).to(cost.dtype) - cost

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, value = ctx.saved_tensors
        return (value - logits.sigmoid()).mul_(gradients[0].unsqueeze(-1)), None
