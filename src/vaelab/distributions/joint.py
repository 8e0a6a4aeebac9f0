"""What is asked of any distribution: a sample with its log-density, and a point in its middle."""

from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor


def sample_and_log_prob(q: td.Distribution, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """Draw z ~ q, and return it with log q(z) in nats.

    A distribution that has a joint method `rsample_and_log_prob`, as a flow has, is asked once, because the two calls
    cost an autoregressive flow twenty times as much. Samples carry a gradient where the distribution can give one.

    Args:
        q: any distribution, of batch shape `[*batch]`.
        sample_shape: leading dimensions of the samples.

    Returns:
        z, `[*sample_shape, *batch, *event_shape]`, and log q(z), `[*sample_shape, *batch]`.
    """
    z, log_q = draw(q, sample_shape)
    return z, q.log_prob(z) if log_q is None else log_q


def draw(q: td.Distribution, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor | None]:
    """Draw z ~ q as `sample_and_log_prob` does, and return log q(z) only where it comes with the sample, else None."""
    shape = torch.Size(sample_shape)
    if (joint := getattr(q, "rsample_and_log_prob", None)) is not None:
        return joint(shape)
    return (q.rsample(shape) if q.has_rsample else q.sample(shape)), None


def mean_or_sample(p: td.Distribution) -> Tensor:
    """Return the mean of p, or one sample where p has no mean, as a flow has none: `[*batch, *event_shape]`."""
    try:
        return p.mean
    except NotImplementedError:
        return p.sample()
