"""Functions of any distribution: a sample with its log-density, a typical point, and what its elements range over."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from vaelab.errors import ConfigError


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
        ConfigError: gradients are enabled, but q is not reparametrised, so samples would carry no gradient.
    """
    if torch.is_grad_enabled() and not q.has_rsample:
        kind = type(q.base_dist if isinstance(q, td.Independent) else q).__name__
        raise ConfigError(
            f"expected a q(z|x) whose samples carry a gradient, found {kind}: choose another encoder, or objective=rws"
        )
    shape = torch.Size(sample_shape)
    if (joint := getattr(q, "rsample_and_log_prob", None)) is not None:
        return joint(shape)
    return sample(q, shape), None


def sample(q: td.Distribution, sample_shape: Sequence[int] = ()) -> Tensor:
    """Draw from q. The samples carry a gradient if q is reparametrised, and none if it is not."""
    return (q.rsample if q.has_rsample else q.sample)(torch.Size(sample_shape))


def mean_or_sample(p: td.Distribution) -> Tensor:
    """Return the mean of p, `[*batch, *event_shape]`, or one sample if p has no mean (a flow has none)."""
    mean = mean_if_any(p)
    return p.sample() if mean is None else mean


def mean_if_any(p: td.Distribution) -> Tensor | None:
    """Return the mean of p, `[*batch, *event_shape]`, or None if p has no mean (a flow has none)."""
    try:
        return p.mean
    except NotImplementedError:
        return None


def scale_is_lost(loc: Tensor, scale: Tensor) -> Tensor:
    """Return whether any scale of an event is NaN, 0, or so small that `loc + scale` rounds to loc, `[*batch]`.

    All samples of such a distribution are the same in floating point, so its density means nothing.

    Examples:
        >>> scale_is_lost(torch.ones(2, 3), torch.tensor([[1e-3], [1e-9]]))
        tensor([False,  True])
    """
    return ~(loc + scale > loc).all(-1)


def different_domains(q: td.Distribution, p: td.Distribution) -> tuple[constraints.Constraint, ...]:
    """Return what the elements of q and of p range over, if both say so and it is not the same; else nothing."""
    found = [own for own in (domain(q), domain(p)) if own is not None]
    return tuple(found) if len({str(own) for own in found}) == 2 else ()  # compared as text: some are made anew


def domain(p: td.Distribution) -> constraints.Constraint | None:
    """Return what each element of a draw from p ranges over, or None if p does not say (as a flow may not).

    Examples:
        >>> domain(td.Independent(td.Bernoulli(torch.ones(5, 2)), 1))
        Boolean()
    """
    try:
        support: Any = p.support
    except NotImplementedError:
        return None
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support
