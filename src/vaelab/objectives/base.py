"""The contract of an objective, and the one place that decides between the closed-form KL and Monte Carlo."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.distributions as td
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.errors import check_count
from vaelab.metric import Metric
from vaelab.vae import VAE, Image

PerExample = Float[Tensor, " batch"]

LOSS = Metric("loss", "loss", better="lower")
BOUND = Metric("bound", "bound of the objective", better="higher", meaning="the trained objective's own bound, if any")


@dataclass
class Terms:
    """The loss and the metrics of each example, in nats; the caller averages over examples.

    Attributes:
        loss: the loss to minimise. Its gradient may reach only some of the parameters.
        metrics: the value of each metric that the objective declares.
    """

    loss: PerExample
    metrics: Mapping[str, PerExample]


class Objective(nn.Module):
    """Base class of the objectives: `objective(vae, x, step) -> Terms`.

    An objective may have buffers but no parameters, because the optimiser updates only the model. It keeps no counter:
    a schedule, such as a warm-up of beta, is a function of `step`. A schedule therefore survives
    a resume, an undone step and a CUDA graph.

    Attributes:
        metrics: the metrics that the objective reports. Their training curves are `train/<name>`, and the progress bar
            shows the first. One named `bound`, such as `BOUND`, is a lower bound of log p(x) other than the plain ELBO;
            the test reports it as `test/bound`.
        couples_batch: whether the loss of an example depends on the other examples of its minibatch, as a total
            correlation does. Such an objective needs `devices=1`.
        follows_samples: whether its gradient goes through samples of q(z|x), so that these must be reparametrised.
        num_train: the number of training examples, which is set before training.
    """

    metrics: tuple[Metric, ...] = ()
    couples_batch: ClassVar[bool] = False
    follows_samples: ClassVar[bool] = True
    num_train: int = 1

    def forward(self, vae: VAE, x: Image, step: Int[Tensor, ""]) -> Terms:
        """Return the terms of each example.

        Args:
            vae: the model.
            x: pixels as the decoder models them, `[batch, channels, height, width]`.
            step: the number of optimiser steps taken before this one, a scalar on the device of x.
        """
        raise NotImplementedError

    def refusal(self, vae: VAE) -> str | None:
        """Return why the objective cannot train this model, and what to type; or None.

        The words follow the name of the objective's class, such as "needs q(z|x) to factorise: type encoder=gaussian".
        """

    @property
    def has_own_bound(self) -> bool:
        """Whether the objective declares a metric named `bound`."""
        return any(metric.name == BOUND.name for metric in self.metrics)


def kl_divergence(
    q: td.Distribution,
    p: td.Distribution,
    z: Float[Tensor, "*samples latent_dim"],
    log_q: Float[Tensor, "*samples"] | None = None,
    closed_form: bool = True,
) -> Float[Tensor, "*batch"]:
    """Return KL(q || p) in nats, `[*batch]`: in closed form if PyTorch has one, else from samples of q.

    The Monte Carlo estimate is the mean over samples of log q(z) - log p(z). It is unbiased, and may be negative.

    Args:
        q, p: distributions over z; q has the batch shape `[*batch]`.
        z: samples of q, `[*samples, *batch, latent_dim]`; `*samples` may be empty.
        log_q: log q(z) in nats, if already known; see `vaelab.distributions.draw`.
        closed_form: whether a closed form may be used.

    Examples:
        >>> import torch
        >>> q = td.Independent(td.Normal(torch.zeros(5, 2), 1.0), 1)
        >>> p = td.Independent(td.Normal(torch.ones(2), 1.0), 1)
        >>> kl_divergence(q, p, q.sample())
        tensor([1., 1., 1., 1., 1.])
    """
    if closed_form and (kl := closed_form_kl(q, p)) is not None:
        return kl
    log_ratio = (q.log_prob(z) if log_q is None else log_q) - p.log_prob(z)
    return mean_over_samples(log_ratio, q.batch_shape)


def closed_form_kl(q: td.Distribution, p: td.Distribution) -> Float[Tensor, "*batch"] | None:
    """Return KL(q || p) in nats in closed form, or None if PyTorch has no closed form for it."""
    try:
        return td.kl_divergence(q, p)
    except NotImplementedError:
        return None


def kl_per_dimension(
    q: td.Distribution, p: td.Distribution, z: Float[Tensor, "*samples latent_dim"] | None = None
) -> Float[Tensor, "*batch latent_dim"] | None:
    """Return the KL of each latent dimension in nats; their sum is the KL.

    Return None if q or p does not factorise, or if PyTorch has no closed form, unless samples z of q replace it.
    """
    if not (isinstance(q, td.Independent) and isinstance(p, td.Independent)):
        return None
    kl = closed_form_kl(q.base_dist, p.base_dist)
    if kl is None and z is not None:
        return mean_over_samples(q.base_dist.log_prob(z) - p.base_dist.log_prob(z), q.base_dist.batch_shape)
    return kl


def factorises(q: td.Distribution) -> bool:
    """Return whether the latent dimensions are independent, and each has its own density."""
    return isinstance(q, td.Independent) and not q.base_dist.event_shape


def at_least_1(**arguments: int) -> None:
    """Refuse an argument of an objective that is not a whole number of at least 1."""
    for name, value in arguments.items():
        check_count(f"objective.{name}", value)


def at_least_0(**arguments: float) -> None:
    """Refuse an argument of an objective that is negative or NaN."""
    for name, value in arguments.items():
        if not value >= 0:
            raise ValueError(f"objective.{name} must be 0 or more, found {value}")


def mean_over_samples(values: Tensor, batch_shape: Sequence[int]) -> Tensor:
    """Return the mean of `[*samples, *batch]` over `*samples`, which may be empty."""
    samples = values.dim() - len(batch_shape)
    return values.mean(tuple(range(samples))) if samples else values
