"""Compare two settings example by example: the difference of their mean scores, with an interval that covers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = Sequence[NDArray[np.float64]]  # for each seed, the scores of the same examples in the same order
LEVEL = 0.95
MOST_SEEDS = 100
LIKELY = 0.8  # the chance that the seeds or examples asked for would tell a difference of the size found


@dataclass(frozen=True)
class Difference:
    """The mean score of a setting A minus that of a setting B, in the unit of the scores.

    Attributes:
        mean: the difference.
        seeds: the number of seeds of A and of B.
        examples: the number of examples.
        of_seeds: the squared error that comes from the choice of seeds; None if A or B has a single seed. The
            difference is then one of trained models, not of settings.
        seeds_df: the degrees of freedom of `of_seeds`.
        of_examples: the squared error that comes from the choice of examples.
    """

    mean: float
    seeds: tuple[int, int]
    examples: int
    of_seeds: float | None
    seeds_df: float
    of_examples: float

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt((self.of_seeds or 0) + self.of_examples)

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval."""
        return self._half_width()

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out 0, so that one setting is better."""
        return abs(self.mean) > self.half_width

    def _half_width(self, more_seeds: float = 1, more_examples: float = 1, quantile: float = 0.5 + LEVEL / 2) -> float:
        """Return the quantile of the error that is expected for so many times the seeds and the examples."""
        from scipy.stats import t  # slow to import

        seeds_df = self.seeds_df + min(self.seeds) * (more_seeds - 1)
        of_seeds = float(t.ppf(quantile, seeds_df)) ** 2 * (self.of_seeds or 0) / more_seeds
        of_examples = float(t.ppf(quantile, self.examples * more_examples - 1)) ** 2 * self.of_examples / more_examples
        return math.sqrt(of_seeds + of_examples)

    def enough_seeds(self) -> int | None:
        """Return how many seeds of each setting would tell a difference of this size; None if no number would do."""
        fewest = min(self.seeds)
        return next((n for n in range(fewest, MOST_SEEDS + 1) if self._would_tell(n / fewest, 1)), None)

    def enough_examples(self) -> int | None:
        """Return how many examples would tell a difference of this size; None if no number would do."""
        if not self._would_tell(1, math.inf):
            return None
        steps = (2 ** (k / 8) for k in range(400))  # up to 2^50 times as many
        return next((math.ceil(self.examples * more) for more in steps if self._would_tell(1, more)), None)

    def _would_tell(self, more_seeds: float, more_examples: float) -> bool:
        widths = (self._half_width(more_seeds, more_examples, q) for q in (0.5 + LEVEL / 2, LIKELY))
        return abs(self.mean) > sum(widths)


def difference(a: Values, b: Values) -> Difference:
    """Compare the mean scores of two settings over the same examples, and over the seeds of each.

    Examples are paired: their part of the error is the variance of the per-example differences, averaged over seeds.
    Seeds are not paired: the variances of both means over seeds add up, with the degrees of freedom of Welch (1947), at
    most those of equal variances in two samples as large as the smaller one. Each part has its own interval by
    Student's t, and the widths are added in squares (Banerjee 1961). In simulations with 3 to 5 seeds the interval
    covers in 93 to 98 % of the cases. With 2 seeds it covers in 95 to 99 %, but only in 91 % if the setting with 2
    seeds varies much more than another that has more of them.

    Args:
        a, b: the scores of each seed, `[examples]`; an example with a NaN is left out.

    Raises:
        ValueError: a score is infinite, there are fewer than two examples, or seeds have different numbers of examples.
    """
    if len({len(values) for values in (*a, *b)}) > 1:
        raise ValueError("expected the same examples for all seeds, found different numbers of them")
    both = np.stack([*a, *b]).astype(np.float64)
    both = both[:, ~np.isnan(both).any(0)]
    if not np.isfinite(both).all():
        raise ValueError("some of their scores are infinite")
    first, second = both[: len(a)], both[len(a) :]
    if (examples := both.shape[1]) < 2:
        raise ValueError(f"expected at least two examples, found {examples}")
    paired = first.mean(0) - second.mean(0)
    of_seeds, seeds_df = None, 1.0
    if min(len(a), len(b)) > 1:
        parts = [values.mean(1).var(ddof=1) / len(values) for values in (first, second)]
        of_seeds = float(sum(parts))
        below = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
        seeds_df = min(of_seeds**2 / below, 2.0 * (min(len(a), len(b)) - 1)) if below > 0 else 1.0
    of_examples = float(paired.var(ddof=1) / examples)
    return Difference(float(paired.mean()), (len(a), len(b)), examples, of_seeds, seeds_df, of_examples)
