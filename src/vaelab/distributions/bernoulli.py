"""The joint distribution of an event's Bernoulli elements."""

from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

LARGEST = 126  # factors of one product; each is at least 1/2, and float32 begins at 2^-126


class IndependentBernoulli(td.Independent):
    """`torch.distributions.Independent` over `torch.distributions.Bernoulli`, with a faster `log_prob`.

    `log p(x) = sum_i (x_i l_i - max(l_i, 0)) + log prod_i sigmoid(|l_i|)`, with the logits l. Logarithms of products of
    many elements are faster than one for each element. The value x is a constant: it gets no gradient. Forward-mode
    derivatives are missing, because `torch.compile` refuses functions that have them.

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
        # an autograd function costs as much as three operations, so call it only if it is needed
        compute: Any = _LogProb.apply if torch.is_grad_enabled() else _LogProb.forward
        return compute(logits.flatten(-dims), value.flatten(-dims))


class _LogProb(torch.autograd.Function):
    """The sum over the last axis, with the gradient `x - sigmoid(l)`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, value: Tensor) -> Tensor:
        cost = torch.addcmul(logits.relu(), logits, value, value=-1).sum(-1)
        count = next(size for size in range(LARGEST, 0, -1) if logits.shape[-1] % size == 0)
        products = logits.abs().sigmoid_().unflatten(-1, (-1, count)).prod(-1)
        return products.log().sum(-1) - cost

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, value = ctx.saved_tensors
        return (value - logits.sigmoid()).mul_(gradients[0].unsqueeze(-1)), None
