"""The contract of an estimator of log p(x): `Estimator`, its per-example `Estimate`, and the group `Several`."""

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import check_count
from vaelab.vae import VAE

PerExample = Float[Tensor, " batch"]
PerSimulated = Float[Tensor, " simulated"]


@dataclass
class Estimate:
    """An estimate of log p(x) for each example, in nats; a field that an estimator does not compute is None.

    Attributes:
        log_likelihood: the estimate; higher is better.
        standard_error: its Monte Carlo standard error; NaN for a single sample.
        effective_sample_size: the number of equal weights, or of independent draws, that would be as accurate.
        bias: the mean of the estimate minus log p(x), as estimated from the samples; the true one may be larger if they
            are few or their weights have a heavy tail.
        pareto_k: the shape of the weights' tail (`vaelab.estimators.importance_weights.pareto_k`).
        acceptance_rate: the acceptance rate of Hamiltonian transitions.
        r_hat: R-hat of the chains, the largest over dimensions; 1 means that they have mixed.
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
        """Return the fields that are not None, by name."""
        return {name: values for name, values in vars(self).items() if values is not None}


@runtime_checkable
class Estimator(Protocol):
    """An estimator of log p(x): `estimator(vae, x) -> Estimate`.

    Attributes:
        name: its name on command lines.
        label: its name in tables.
        unbiased: whether exp(log_likelihood) has the mean p(x); log_likelihood is then a lower bound on average.
        part_size: how many examples a slow estimator gets at a time; None for a whole block of 100.
    """

    name: str
    label: str
    unbiased: bool
    part_size: int | None

    def __call__(self, vae: VAE, x: Tensor) -> Estimate: ...

    def refusal(self, vae: VAE) -> str | None:
        """Return why the estimator does not work for this model, or None."""


class Several:
    """Several estimators by name, run one after another.

    Args:
        estimators: the estimators by name.

    Raises:
        ValueError: no estimator is given, or a value is not an `Estimator`.
    """

    name = "all"

    def __init__(self, **estimators: Estimator) -> None:
        wrong = [name for name, estimator in estimators.items() if not isinstance(estimator, Estimator)]
        if wrong or not estimators:
            raise ValueError(
                f"Several expects name=estimator, found no estimator{' in ' if wrong else ''}{', '.join(wrong)}"
            )
        self.estimators = estimators


def of_weights(log_weights: Float[Tensor, "samples batch"], **more: Any) -> Estimate:
    """Return the estimate log (1/K) sum_k w_k from K weights per example; `more` holds other fields.

    The delta method gives the standard error `sqrt((K sum w^2 / (sum w)^2 - 1) / (K - 1))`, NaN for K = 1. Its next
    term gives the bias, which is minus half the square of the standard error. If large weights are so rare that the
    samples hold none of them, both are too small, and the bias is a lower bound of the true one. The effective sample
    size is `(sum w)^2 / sum w^2` (Kong 1992).
    """
    return of_sums(log_weights.logsumexp(0), (2 * log_weights).logsumexp(0), len(log_weights), **more)


def of_sums(log_sum: PerExample, log_sum_of_squares: PerExample, num_samples: int, **more: Any) -> Estimate:
    """Return the estimate of `of_weights` from log sum w and log sum w^2."""
    k = num_samples
    effective = (2 * log_sum - log_sum_of_squares).exp()
    variance = (k / effective - 1).clamp_min(0) / (k - 1) if k > 1 else torch.full_like(effective, math.nan)
    return Estimate(log_sum - math.log(k), variance.sqrt(), effective, -variance / 2, **more)


def at_least_1(estimator: object, *names: str) -> None:
    """Refuse attributes that are not whole numbers of at least 1. The ValueError names the first of them."""
    for name in names:
        check_count(f"estimator.{name}", getattr(estimator, name))


def refusal_of_discrete(vae: VAE) -> str | None:
    """Return why an estimator that follows gradients in z does not work for this model, or None."""
    return "it follows gradients in z, but z is discrete" if vae.encoder.head.discrete else None


def at_least_one_example(x: Tensor) -> None:
    """Refuse an empty batch, with a ValueError."""
    if len(x) == 0:
        raise ValueError(f"expected at least one example, found x of shape {tuple(x.shape)}")
