"""Importance weights that arrive in parts: their sums, and the tail index that shows whether to trust the sums."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import PointMassError
from vaelab.estimators.base import Estimate, PerExample, of_sums

FEWEST = 25  # with fewer weights, the tail would have fewer than 5
ROUNDING = 1e-6  # relative rounding error of a log weight computed in float32
EVEN = -1.0  # the k returned for weights that are equal up to rounding
WIDEST = 700.0  # nats; a weight further below the largest one underflows to 0 in float64
LogWeights = Float[Tensor, "samples batch"]


def of_parts(parts: Iterable[LogWeights], num_samples: int) -> Estimate:
    """Return the estimate of `of_weights`, with Pareto k, for K log weights that come in parts.

    Memory grows as sqrt(K).

    Raises:
        PointMassError: a weight is infinite or NaN, as for a q(z|x) of scale 0; a weight of 0 is allowed.
    """
    num_largest = min(num_samples, 5 * tail_length(num_samples))
    sums: list[Tensor] = []  # log sum w and log sum w^2
    largest: list[Tensor] = []
    for log_weights in parts:
        broken = (log_weights.isnan() | (log_weights == math.inf)).any(0)
        if broken.any():
            raise PointMassError(
                f"the importance weights of {int(broken.sum())} of {broken.numel()} examples are infinite or NaN: a "
                "posterior q(z|x) of scale 0 has no density and no finite KL; give the encoder's head a min_scale"
            )
        log_weights = log_weights.double()
        added = [log_weights.logsumexp(0), (2 * log_weights).logsumexp(0)]
        sums = list(map(torch.logaddexp, sums, added)) if sums else added
        largest.append(log_weights)
        if sum(map(len, largest)) > 2 * num_largest:
            largest = [torch.cat(largest).topk(num_largest, dim=0).values]
    tail = torch.cat(largest).topk(num_largest, dim=0).values
    return of_sums(sums[0], sums[1], num_samples, pareto_k=pareto_k(tail, num_samples))


def tail_length(num_samples: int) -> int:
    """Return how many of K weights form their tail: `min(K / 5, 3 sqrt(K))`, section 6 of Vehtari et al. (2024)."""
    return math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))


def pareto_k(largest: LogWeights, num_samples: int) -> PerExample | None:
    """Return the shape k of a generalised Pareto distribution, fitted by ArviZ to the largest of K weights per example.

    The weights have 1/k finite moments. With k above `threshold(K)` no practical number of samples is enough:
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto Smoothed Importance Sampling". The result is None for fewer
    than 25 weights. k is infinite where all weights are 0, or where a quarter of the tail underflows beside the largest
    weight. `largest` holds the `5 * tail_length(K)` largest log weights, or all, in descending order.
    """
    if num_samples < FEWEST or largest.shape[1] == 0:
        return None
    from arviz_stats.base import array_stats  # slow to import

    tails = largest.T.double().cpu()
    tail = tails[:, : tail_length(num_samples)]
    maximum = tail[:, 0]
    even = maximum - tail[:, -1] <= ROUNDING * maximum.abs().clamp_min(1)
    fitted = maximum - tail[:, -(tail.shape[1] // 4)] < WIDEST  # the fit divides by the lower quartile
    k = torch.where(even, EVEN, math.inf).double()
    if (fitted := fitted & ~even).any():
        # ArviZ takes -log w, and computes the tail's length from the number of weights given and r_eff
        r_eff: Any = len(largest) / num_samples  # gives the tail length of all K weights
        k[fitted] = torch.as_tensor(array_stats.psislw(-tails[fitted].numpy(), r_eff=r_eff)[1])
    return k.to(largest.device)


def threshold(num_samples: int) -> float:
    """Return the largest k at which K weights can be trusted: Vehtari et al. (2024), section 3.2."""
    return min(1 - 1 / math.log10(num_samples), 0.7)
