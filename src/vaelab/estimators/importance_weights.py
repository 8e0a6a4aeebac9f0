"""Importance weights that arrive in parts: their sums, and the tail index that shows whether to trust the sums."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import PointMassError
from vaelab.estimators.base import Estimate, PerExample, of_sums

FEWEST = 25  # with fewer weights, the tail would have fewer than 5
ROUNDING = 1e-6  # relative rounding error of a log weight computed in float32
AT_ONCE = 1_000_000  # elements of a tensor in the fit of the tails
EVEN = -1.0  # the k returned for weights that are equal up to rounding
WIDEST = 700.0  # nats; a weight further below the largest one underflows to 0 in float64
LogWeights = Float[Tensor, "samples batch"]


def of_parts(parts: Iterable[LogWeights], num_samples: int) -> Estimate:
    """Return the estimate of `of_weights`, with Pareto k, for K log weights that come in parts.

    Memory grows as sqrt(K).

    Raises:
        PointMassError: a weight is infinite or NaN, as for a q(z|x) of scale 0; a weight of 0 is allowed.
    """
    num_largest = tail_length(num_samples) + 1
    sums: list[Tensor] = []  # log sum w and log sum w^2
    largest: list[Tensor] = []
    for log_weights in parts:
        log_weights = log_weights.double()
        added = [log_weights.logsumexp(0), (2 * log_weights).logsumexp(0)]
        sums = list(map(torch.logaddexp, sums, added)) if sums else added
        largest.append(log_weights)
        if sum(map(len, largest)) > 2 * num_largest:
            largest = [torch.cat(largest).topk(num_largest, dim=0).values]
    broken = sums[0].isnan() | (sums[0] == math.inf)  # looked at only here, because looking waits for the GPU
    if broken.any():
        raise PointMassError(
            f"the importance weights of {int(broken.sum())} of {broken.numel()} examples are infinite or NaN: a "
            "posterior q(z|x) of scale 0 has no density and no finite KL; give the encoder's head a min_scale"
        )
    tail = torch.cat(largest).topk(num_largest, dim=0).values
    return of_sums(sums[0], sums[1], num_samples, pareto_k=pareto_k(tail, num_samples))


def tail_length(num_samples: int) -> int:
    """Return how many of K weights form their tail: `min(K / 5, 3 sqrt(K))`, section 6 of Vehtari et al. (2024)."""
    return int(min(num_samples / 5, 3 * math.sqrt(num_samples)))  # rounded down, as in ArviZ


def pareto_k(largest: LogWeights, num_samples: int) -> PerExample | None:
    """Return the shape k of a generalised Pareto distribution, fitted to the largest of K weights per example.

    The weights have 1/k finite moments. With k above `threshold(K)` no practical number of samples is enough:
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto Smoothed Importance Sampling". The result is None for fewer
    than 25 weights. k is infinite where all weights are 0, or where a quarter of the tail underflows beside the largest
    weight. `largest` has the `tail_length(K) + 1` largest log weights in descending order.
    """
    if num_samples < FEWEST or largest.shape[1] == 0:
        return None
    log_weights = largest[: tail_length(num_samples) + 1].double()
    maximum, tail = log_weights[0], log_weights[:-1]
    even = maximum - tail[-1] <= ROUNDING * maximum.abs().clamp_min(1)
    fits = maximum - tail[lower_quartile(len(tail))] < WIDEST  # the fit divides by the lower quartile
    weights = (log_weights - maximum).exp()
    k = generalised_pareto_shape(weights[:-1] - weights[-1])
    return torch.where(even, EVEN, k.where(fits, math.inf))


def generalised_pareto_shape(excesses: Float[Tensor, "tail batch"]) -> PerExample:
    """Return the shape of a generalised Pareto distribution, fitted to excesses over a threshold, largest first.

    The estimator is that of Zhang & Stephens (2009): with `k(b) = mean log(1 - b x)`, the mean of b under weights
    proportional to the profile likelihood `(-b / k(b) exp(-k(b) - 1))^n` over a fixed set of b. A prior worth 10
    excesses pulls k towards 0.5: Vehtari et al. (2024), appendix C.
    """
    n = len(excesses)
    size = 30 + math.isqrt(n)
    spread = 1 - (size / (torch.arange(size, dtype=excesses.dtype, device=excesses.device) + 0.5)).sqrt()
    candidates = spread.unsqueeze(1) / (3 * excesses[lower_quartile(n)]) + 1 / excesses[0]
    some = candidates.split(max(1, AT_ONCE // excesses.numel()))  # not all at once, because memory is bounded
    shapes = torch.cat([torch.log1p(-b.unsqueeze(1) * excesses).mean(1) for b in some])
    weights = (n * ((-candidates / shapes).log() - shapes - 1)).softmax(0)
    b = (candidates * weights).sum(0)
    k = torch.log1p(-b * excesses).mean(0).nan_to_num(0)  # NaN where a quarter of the excesses are 0: there is no tail
    return (n * k + 10 * 0.5) / (n + 10)


def lower_quartile(n: int) -> int:
    """Return the index of the lower quartile of n values in descending order."""
    return n - int(n / 4 + 0.5)


def threshold(num_samples: int) -> float:
    """Return the largest k at which K weights can be trusted: Vehtari et al. (2024), section 3.2."""
    return min(1 - 1 / math.log10(num_samples), 0.7)
