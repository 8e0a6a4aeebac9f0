"""The predictive check: where each pixel of x ranks in its own predictive distribution p(x|z), at z ~ q(z|x)."""

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor

from vaelab.data.batches import Block
from vaelab.evaluation.latent_usage import spread_of_mean
from vaelab.vae import VAE, Image

NUM_EXAMPLES = 200  # of the split, the first ones: a check needs fewer than a score
NUM_SAMPLES = 19  # of each pixel, so that it has one of 20 ranks; the lowest and the highest hold 10 % of them
NUM_RANKS = NUM_SAMPLES + 1
RANK_HISTOGRAM, OUTSIDE = "rank_histogram", "outside_range"  # the names of the per-example values
CHECKED = (RANK_HISTOGRAM, OUTSIDE)
COVERAGES = {"coverage_50": 0.5, "coverage_90": 0.9}  # metric → probability of the central predictive interval

Histograms = Float[Tensor, "examples ranks"]


def is_checked(block: Block) -> bool:
    """Return whether the test makes the check for this block."""
    return block.part == 0 and int(block.indices[0]) < NUM_EXAMPLES


def predictive_check(vae: VAE, x: Image) -> dict[str, Tensor]:
    """Return the `rank_histogram` of each example in its own p(x|z), at one z ~ q(z|x), and what lies outside.

    If p(x|z) is the distribution of the examples with the code z, then x and its samples are independent draws from one
    distribution, so the ranks are uniform, whatever q is (Johnson 2007). A new z for each sample would not do: q has
    already moved towards x, so even the ranks of a perfect model would gather in the middle.

    `outside_range` is the share of an example's sampled pixels below 0 or above `vae.max_pixel`: an estimate of the
    mass that p(x|z) gives to values that no pixel has.
    """
    p = vae.decode(vae.encode(x).sample())
    ranks, sample = rank_histogram(p, x), p.sample()
    outside = (sample < 0) | (sample > vae.max_pixel)
    return {RANK_HISTOGRAM: ranks, OUTSIDE: outside.float().flatten(1).mean(1)}


def rank_histogram(p: td.Distribution, x: Tensor) -> Histograms:
    """Return the share of each example's pixels that have each rank among samples of p; uniform if p is right.

    A rank is the number of samples below x, and ties are broken at random (Hamill 2001), so discrete pixels have
    uniform ranks too, and no cdf is needed.
    """
    below, places = torch.zeros_like(x), torch.ones_like(x)
    for _ in range(NUM_SAMPLES):  # one by one, because all at once may not fit in memory
        sample = p.sample()
        below += sample < x
        places += sample == x
    ranks = (below + (torch.rand_like(x) * places).floor()).flatten(1)
    return torch.stack([(ranks == rank).float().mean(1) for rank in range(NUM_RANKS)], 1)


def coverage(histograms: Histograms, probability: float) -> Float[Tensor, " examples"]:
    """Return the share of each example's pixels that lie in their central predictive interval."""
    outside = round((1 - probability) / 2 * NUM_RANKS)
    return histograms[:, outside : NUM_RANKS - outside].sum(1)


def predictive_summary(histograms: Histograms, outside: Float[Tensor, " examples"]) -> dict[str, float]:
    """Return the metrics of the check, each with its standard error over examples.

    Pixels of one example depend on each other, so only examples count as independent. `miscalibration` is the total
    variation distance of the mean histogram from the uniform one. Its error is that of a mean: the signs of the
    differences are held constant.

    Args:
        histograms: the `rank_histogram` of each example.
        outside: the `outside_range` of each example.
    """
    shares = {name: coverage(histograms, probability) for name, probability in COVERAGES.items()}
    shares["above_median"] = histograms[:, NUM_RANKS // 2 :].sum(1)
    shares[OUTSIDE] = outside
    excess = histograms - 1 / NUM_RANKS
    shares["miscalibration"] = excess @ excess.mean(0).sign() / 2
    means = {name: share.mean().item() for name, share in shares.items()}
    return means | {f"{name}_error": spread_of_mean(share) for name, share in shares.items()}
