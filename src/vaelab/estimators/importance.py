"""Importance sampling from the encoder's posterior."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.distributions as td

from vaelab.distributions import sample_and_log_prob
from vaelab.estimators.base import Estimate, at_least_1, at_least_one_example
from vaelab.estimators.densities import Densities
from vaelab.estimators.importance_weights import of_parts
from vaelab.vae import VAE, Image

ROUND = 100  # samples per example drawn at once; a constant, so that the memory limit does not change the draws
ROUND_OF_GPU = 500  # larger, because launching a kernel takes longer there than its arithmetic


@dataclass
class ImportanceSampling:
    """The importance-weighted log-likelihood: Burda, Grosse & Salakhutdinov (2016), equation 8.

    `log p(x) ~ log (1/K) sum_k w_k`, `w_k = p(x, z_k) / q(z_k|x)`, `z_k ~ q(z|x)`. The estimate is, on
    average, a lower bound of log p(x) that rises with K. `vaelab.estimators.base.of_weights` computes the standard
    error, bias and effective sample size. Do not trust them if `pareto_k` is large, because q(z|x) is then a poor
    proposal; `RefinedImportanceSampling` has a better one.

    Args:
        num_samples: K.
        max_batch_elements: upper limit on the elements (4 bytes each) of the largest tensor that a module of the
            decoder returns, or that the prior's density makes, at most 244 MiB by default. Several such tensors exist
            at a time: 3 with a Bernoulli head, 7 with a Gaussian one, and up to 37 with the heads over grey levels. One
            sample of one example is always allowed. On a CPU the limit is at most 3 MiB, because smaller tensors are
            faster there.

    Raises:
        ValueError: an argument is below 1; or, when called, x is an empty batch.
        PointMassError: when called, q(z|x) has no density.
    """

    num_samples: int = 100
    max_batch_elements: int = 64_000_000
    name: ClassVar[str] = "importance"
    label: ClassVar[str] = "importance sampling"
    unbiased: ClassVar[bool] = True
    part_size: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        at_least_1(self, "num_samples", "max_batch_elements")

    def refusal(self, vae: VAE) -> str | None:
        """Return None, because any latent works."""

    @torch.no_grad()
    def __call__(self, vae: VAE, x: Image) -> Estimate:
        at_least_one_example(x)
        q = self.proposal(vae, x)
        most = ROUND if x.device.type == "cpu" else ROUND_OF_GPU
        sizes = (min(most, self.num_samples - start) for start in range(0, self.num_samples, most))
        draws = (sample_and_log_prob(q, (size,)) for size in sizes)
        densities = Densities(vae, x, self.max_batch_elements)
        weights = (densities.log_prior(z) + densities.log_likelihood(z) - log_q for z, log_q in draws)
        return of_parts(weights, self.num_samples)

    def proposal(self, vae: VAE, x: Image) -> td.Distribution:
        """Return the distribution of each example that z is drawn from."""
        return vae.encode(x)
