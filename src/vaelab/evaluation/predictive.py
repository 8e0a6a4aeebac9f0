"""The predictive check: where each pixel of x ranks in its own predictive distribution p(x|z), at z ~ q(z|x)."""

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor

from vaelab.data.batches import Block
from vaelab.evaluation.latent_usage import spread_of_mean
from vaelab.vae import VAE, Image

NUM_EXAMPLES = 200  # of the split, the first ones: a check needs fewer than a score
NUM_SAMPLES = 39  # of p(x|z) for each pixel; a bin then holds two of the 40 possible ranks
NUM_BINS = 20
RANK_HISTOGRAM = "rank_histogram"  # the name of the per-example values
COVERAGES = {"coverage_50": 0.5, "coverage_90": 0.9}  # metric → level of the central predictive intervals

Histograms = Float[Tensor, "examples bins"]


def is_checked(block: Block) -> bool:
    """Return whether the test makes the check for this block."""
    return block.part == 0 and int(block.indices[0]) < NUM_EXAMPLES


def rank_histogram(vae: VAE, x: Image) -> Histograms:
    """Return the share of each example's pixels in each bin of their `randomised_ranks`.

    All samples of an example share one z ~ q(z|x). If p(x|z) is the distribution of the examples with this code z, then
    x and its samples are independent draws from one distribution, so the ranks are uniform, whatever q is (Johnson
    2007). A new z for each sample would not do that: x has already moved q towards itself, so the ranks of a perfect
    model would gather in the middle.
    """
    ranks = randomised_ranks(vae.decode(vae.encode(x).sample()), x)
    bins = (ranks.flatten(1) * NUM_BINS).long().clamp(max=NUM_BINS - 1)  # float32 may round a rank up to 1
    return torch.stack([(bins == number).float().mean(1) for number in range(NUM_BINS)], 1)


def randomised_ranks(p: td.Distribution, x: Tensor, num_samples: int = NUM_SAMPLES) -> Tensor:
    """Return the rank of each pixel of x among samples of p, scaled to [0, 1): uniform if p is right.

    `(samples below x + u (samples equal to x, and 1)) / (num_samples + 1)`, u ~ Uniform(0, 1). This breaks ties at
    random (Hamill 2001), as the randomised probability integral transform does for counts (Czado et al. 2009), and
    needs no cdf.
    """
    below, equal = torch.zeros_like(x), torch.ones_like(x)
    for _ in range(num_samples):  # one by one, because all at once may not fit in memory
        sample = p.sample()
        below += sample < x
        equal += sample == x
    return (below + torch.rand_like(x) * equal) / (num_samples + 1)


def coverage(histograms: Histograms, level: float) -> Float[Tensor, " examples"]:
    """Return the share of each example's pixels in their central predictive interval of probability `level`."""
    outside = round((1 - level) / 2 * NUM_BINS)
    return histograms[:, outside : NUM_BINS - outside].sum(1)


def predictive_summary(histograms: Histograms) -> dict[str, float]:
    """Return the metrics of the check, each with its standard error over examples.

    Pixels of one example depend on each other, so only the examples count as independent. `miscalibration` is the total
    variation distance of the mean histogram from the uniform one; its error is that of a mean, with the signs of the
    differences held constant.
    """
    shares = {name: coverage(histograms, level) for name, level in COVERAGES.items()}
    shares["above_median"] = histograms[:, NUM_BINS // 2 :].sum(1)
    signs = (histograms.mean(0) - 1 / NUM_BINS).sign()
    shares["miscalibration"] = (histograms - 1 / NUM_BINS) @ signs / 2
    means = {name: share.mean().item() for name, share in shares.items()}
    return means | {f"{name}_error": spread_of_mean(share) for name, share in shares.items()}
