"""Importance weights that come in parts: their sums, and the tail that tells whether the sums can be trusted."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import PointMassError
from vaelab.estimators.base import Estimate, PerExample, of_sums

FEWEST = 25  # below, the tail is fewer than five weights
ROUNDING = 1e-6  # of a log weight that was computed in float32
EVEN = -1.0  # k of weights that are all alike, but for rounding: like uniform ones, they have no tail
WIDEST = 700.0  # nats that float64 holds: below the largest weight by more, others are 0
LogWeights = Float[Tensor, "samples batch"]


class RunningWeights:
    """The sums of a batch's weights, in float64, and the largest of them; memory grows with the root of their number.

    Args:
        num_samples: how many will come per example.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.kept = min(num_samples, 5 * tail_length(num_samples))
        self.log_sum: Tensor | None = None
        self.log_sum_of_squares: Tensor | None = None
        self.largest: list[Tensor] = []

    def add(self, log_weights: LogWeights) -> None:
        """Takes more weights, `[some samples, batch]`.

        Raises:
            PointMassError: they are infinite or not numbers.
        """
        check_finite(log_weights)
        log_weights = log_weights.double()
        log_sum, log_sum_of_squares = log_weights.logsumexp(0), (2 * log_weights).logsumexp(0)
        if self.log_sum is None or self.log_sum_of_squares is None:
            self.log_sum, self.log_sum_of_squares = log_sum, log_sum_of_squares
        else:
            self.log_sum = torch.logaddexp(self.log_sum, log_sum)
            self.log_sum_of_squares = torch.logaddexp(self.log_sum_of_squares, log_sum_of_squares)
        self.largest.append(log_weights)
        if sum(map(len, self.largest)) > 2 * self.kept:
            self.largest = [torch.cat(self.largest).topk(self.kept, dim=0).values]

    def estimate(self) -> Estimate:
        """The estimate that all weights make."""
        assert self.log_sum is not None
        assert self.log_sum_of_squares is not None
        largest = torch.cat(self.largest).topk(self.kept, dim=0).values
        return of_sums(
            self.log_sum, self.log_sum_of_squares, self.num_samples, pareto_k=pareto_k(largest, self.num_samples)
        )


def check_finite(log_weights: Tensor) -> None:
    """Whether weights are those of a proposal that has a density.

    Raises:
        PointMassError: some are +infinity or not a number, as at a q(z|x) of scale 0; a weight of 0 is in order.
    """
    broken = (log_weights.isnan() | (log_weights == math.inf)).any(0)
    if broken.any():
        raise PointMassError(
            f"importance weights of {int(broken.sum())} of {broken.numel()} examples are not numbers: a posterior "
            "q(z|x) of scale 0 has no density to weigh by, and no finite KL; give the encoder's head a min_scale"
        )


def tail_length(num_samples: int) -> int:
    """How many of the weights are their tail: `min(K / 5, 3 sqrt(K))`, section 6 of Vehtari et al. (2024)."""
    return math.ceil(min(num_samples / 5, 3 * math.sqrt(num_samples)))


def pareto_k(largest: LogWeights, num_samples: int) -> PerExample | None:
    """The shape k of a generalised Pareto distribution fitted to the largest of K weights per example, by ArviZ.

    The weights have 1/k finite moments. With k above `threshold(K)` no practical number of samples is enough.
    Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto Smoothed Importance Sampling". None for fewer than 25;
    infinite where a quarter of the tail is nothing beside the largest weight, or all weights are 0.

    Args:
        largest: log weights, falling; `5 * tail_length(num_samples)` of them, or all: the fit sees no others.
        num_samples: K.
    """
    if num_samples < FEWEST or largest.shape[1] == 0:
        return None
    from arviz_stats.base import array_stats  # slow to import

    tails = largest.T.double().cpu()
    tail = tails[:, : tail_length(num_samples)]
    most = tail[:, 0]
    even = most - tail[:, -1] <= ROUNDING * most.abs().clamp_min(1)
    fitted = most - tail[:, -(tail.shape[1] // 4)] < WIDEST  # the fit divides by the lower quartile
    k = torch.where(even, EVEN, math.inf).double()
    if (fitted := fitted & ~even).any():  # ArviZ wants -log w, and settles the tail's length by their number and r_eff
        r_eff: Any = len(largest) / num_samples  # makes it that of K
        k[fitted] = torch.as_tensor(array_stats.psislw(-tails[fitted].numpy(), r_eff=r_eff)[1])
    return k.to(largest.device)


def threshold(num_samples: int) -> float:
    """The k that K weights can bear: `min(1 - 1 / log10(K), 0.7)`, Vehtari et al. (2024), section 3.2."""
    return min(1 - 1 / math.log10(num_samples), 0.7)
