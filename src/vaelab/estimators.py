"""Estimators of log p(x): per example, in nats, in bounded memory whatever the number of samples."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.conditional import VAE, Image

PerExample = Float[Tensor, " batch"]


@dataclass
class Estimate:
    """An estimate of log p(x) for each example.

    Attributes:
        log_likelihood: the estimate, in nats; higher is better.
        standard_error: its Monte Carlo error, in nats.
        effective_sample_size: how many equal weights the weights are worth, between 1 and the number of samples.
    """

    log_likelihood: PerExample
    standard_error: PerExample
    effective_sample_size: PerExample


@dataclass
class ImportanceSampling:
    """The importance-weighted log-likelihood: Burda, Grosse & Salakhutdinov (2016), equation 8.

    `log p(x) ~ log (1/K) sum_k w_k`, `w_k = p(x, z_k) / q(z_k|x)`, `z_k ~ q(z|x)`. Its mean is a lower bound of
    log p(x) that rises with K. The standard error is the delta method's, `sqrt((K sum w^2 / (sum w)^2 - 1) / K)`, and
    the effective sample size `(sum w)^2 / sum w^2` (Kong 1992). With K = 1 the standard error is not defined: NaN.

    Samples are drawn and weighted in chunks; of each chunk only three running sums per example are kept.

    Args:
        num_samples: K.
        max_batch_elements: upper limit on the decoder's output in one chunk, in numbers (4 bytes each); a chunk holds
            one sample per example at the least.

    Raises:
        ValueError: either of them below 1.
    """

    num_samples: int = 100
    max_batch_elements: int = 4_000_000

    def __post_init__(self) -> None:
        for name in ("num_samples", "max_batch_elements"):
            if getattr(self, name) < 1:
                raise ValueError(f"estimator.{name} must be at least 1, found {getattr(self, name)}")

    @torch.no_grad()
    def __call__(self, vae: VAE, x: Image) -> Estimate:
        q = vae.encode(x)
        chunk = max(1, self.max_batch_elements // max(1, x.numel()))
        log_sum = log_sum_of_squares = x.new_full(x.shape[:1], -math.inf)
        for start in range(0, self.num_samples, chunk):
            z = q.sample((min(chunk, self.num_samples - start),))
            log_weights = vae.log_joint(x, z) - q.log_prob(z)
            log_sum = torch.logaddexp(log_sum, log_weights.logsumexp(0))
            log_sum_of_squares = torch.logaddexp(log_sum_of_squares, (2 * log_weights).logsumexp(0))
        k = self.num_samples
        effective = (2 * log_sum - log_sum_of_squares).exp()
        error = ((k / effective - 1).clamp_min(0) / k).sqrt() if k > 1 else torch.full_like(effective, math.nan)
        return Estimate(log_sum - math.log(k), error, effective)
