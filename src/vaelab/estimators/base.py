"""What an estimator of log p(x) is, and what it says of each example."""

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.vae import VAE

PerExample = Float[Tensor, " batch"]
PerSimulated = Float[Tensor, " simulated"]


@dataclass
class Estimate:
    """An estimate of log p(x) for each example, in nats; what an estimator cannot say is None.

    Attributes:
        log_likelihood: the estimate; higher is better.
        standard_error: its Monte Carlo error; NaN where one sample cannot tell.
        effective_sample_size: how many equal weights, or independent draws, the samples are worth.
        bias: what the estimate's mean lies away from log p(x), as far as the samples tell.
        pareto_k: the shape of the weights' tail (`vaelab.estimators.importance_weights.pareto_k`).
        acceptance_rate: of Hamiltonian transitions.
        r_hat: how far chains are from having mixed, at worst over dimensions; 1 is mixed.
        simulated_lower, simulated_upper: bounds on log p(x) of examples drawn from the model itself.
    """

    log_likelihood: PerExample
    standard_error: PerExample
    effective_sample_size: PerExample
    bias: PerExample
    pareto_k: PerExample | None = None
    acceptance_rate: PerExample | None = None
    r_hat: PerExample | None = None
    simulated_lower: PerSimulated | None = None
    simulated_upper: PerSimulated | None = None

    def known(self) -> dict[str, Tensor]:
        """What is not None, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: values for name, values in named.items() if values is not None}


@runtime_checkable
class Estimator(Protocol):
    """`estimator(vae, x) -> Estimate`.

    Attributes:
        name: what command lines call it.
        label: what tables call it.
        unbiased: whether exp(log_likelihood) has the mean p(x); then the mean of log_likelihood lies below log p(x).
        part_size: how many examples to give it at a time, for what takes long; None for a whole block of 100.
    """

    name: str
    label: str
    unbiased: bool
    part_size: int | None

    def __call__(self, vae: VAE, x: Tensor) -> Estimate: ...

    def refusal(self, latent_dim: int) -> str | None:
        """Why it is not for a latent of this size, or None."""
        ...


def of_weights(log_weights: Float[Tensor, "samples batch"], **more: Any) -> Estimate:
    """The estimate log (1/K) sum_k w_k of a mean of K weights per example; K = 1 has no standard error.

    By the delta method its standard error is `sqrt((K sum w^2 / (sum w)^2 - 1) / (K - 1))`, and its bias, by the next
    term of the same expansion, minus half the square of that. The effective sample size is `(sum w)^2 / sum w^2`
    (Kong 1992).
    """
    return of_sums(log_weights.logsumexp(0), (2 * log_weights).logsumexp(0), len(log_weights), **more)


def of_sums(log_sum: PerExample, log_sum_of_squares: PerExample, num_samples: int, **more: Any) -> Estimate:
    """As `of_weights`, of log sum w and log sum w^2."""
    k = num_samples
    effective = (2 * log_sum - log_sum_of_squares).exp()
    variance = (k / effective - 1).clamp_min(0) / (k - 1) if k > 1 else torch.full_like(effective, math.nan)
    return Estimate(log_sum - math.log(k), variance.sqrt(), effective, -variance / 2, **more)


def at_least_1(estimator: object, *names: str) -> None:
    """Refuses counts that are not whole or below 1.

    Raises:
        ValueError: names the first.
    """
    for name in names:
        value = getattr(estimator, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"estimator.{name} must be a whole number of at least 1, found {value!r}")


def at_least_one_example(x: Tensor) -> None:
    """Refuses an empty batch.

    Raises:
        ValueError: says its shape.
    """
    if len(x) == 0:
        raise ValueError(f"expected at least one example, found x of shape {tuple(x.shape)}")
