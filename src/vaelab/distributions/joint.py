"""Functions of any distribution: a sample with its log-density, a typical point, and where its elements lie."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions.constraints import Constraint


def sample_and_log_prob(q: td.Distribution, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Draw z ~ q, and return z and log q(z) in nats.

    Use the method `rsample_and_log_prob` if q has it, because two separate calls cost an autoregressive flow twenty
    times as much. Samples carry a gradient if q is reparametrised.

    Args:
        q: any distribution, of batch shape `[*batch]`.
        sample_shape: leading dimensions of the samples.

    Returns:
        z, `[*sample_shape, *batch, *event_shape]`, and log q(z), `[*sample_shape, *batch]`.

    Examples:
        >>> q = td.Independent(td.Normal(torch.zeros(5, 2), 1.0), 1)
        >>> z, log_q = sample_and_log_prob(q, (3,))
        >>> z.shape, log_q.shape
        (torch.Size([3, 5, 2]), torch.Size([3, 5]))
    """
    z, log_q = draw(q, sample_shape)
    return z, q.log_prob(z) if log_q is None else log_q


def draw(q: td.Distribution, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor | None]:
    """Draw z ~ q, and return z and log q(z), or z and None if q has no `rsample_and_log_prob`.

    Raises:
        NotImplementedError: gradients are enabled, but q is not reparametrised, so samples would carry no gradient.
    """
    shape = torch.Size(sample_shape)
    if (joint := getattr(q, "rsample_and_log_prob", None)) is not None:
        return joint(shape)
    return (q.rsample(shape) if q.has_rsample or torch.is_grad_enabled() else q.sample(shape)), None


def sample(q: td.Distribution, sample_shape: Sequence[int] = ()) -> Tensor:
    """Draw from q. The samples carry a gradient if q is reparametrised, and none if it is not."""
    return (q.rsample if q.has_rsample else q.sample)(torch.Size(sample_shape))


def mean_or_sample(p: td.Distribution) -> Tensor:
    """Return the mean of p, `[*batch, *event_shape]`, or one sample if p has no mean (a flow has none)."""
    try:
        return p.mean
    except NotImplementedError:
        return p.sample()


def element_support(p: td.Distribution) -> Constraint | None:
    """Return the set in which each element of an event lies; None if p does not say (a flow may not).

    Examples:
        >>> element_support(td.Independent(td.Bernoulli(torch.zeros(2)), 1))
        Boolean()
    """
    try:
        support: Any = p.support
    except NotImplementedError:
        return None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support
