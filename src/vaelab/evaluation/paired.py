"""Compare two settings example by example: the difference of their mean scores, with an interval that covers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = Sequence[NDArray[np.float64]]  # for each seed, the scores of the same examples in the same order
LEVEL = 0.95
LIKELY = 0.8  # the chance that the seeds or examples asked for would tell a difference of the size found


@dataclass(frozen=True)
class Difference:
    """The mean score of a setting A minus that of a setting B, in the unit of the scores.

    Attributes:
        mean: the difference.
        seeds: the number of seeds of A and of B.
        examples: the number of examples.
        variances: of the mean scores of A's seeds and of B's; None if A or B has a single seed. The difference is then
            one of trained models, not of settings.
        of_examples: the squared error that comes from the choice of examples.
    """

    mean: float
    seeds: tuple[int, int]
    examples: int
    variances: tuple[float, float] | None
    of_examples: float

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self._of_seeds(self.seeds)[0] + self.of_examples)

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval."""
        return self._quantile(0.5 + LEVEL / 2, self.seeds, self.examples)

    @property
    def tells(self) -> bool:
        """Whether the interval leaves out 0, so that one setting is better."""
        return abs(self.mean) > self.half_width

    def enough_seeds(self) -> int | None:
        """Return about how many seeds of each setting would tell a difference of this size; None if no number would.

        A setting that has more seeds already keeps them.
        """
        return _fewest(
            min(self.seeds), lambda n: self._would_tell((max(self.seeds[0], n), max(self.seeds[1], n)), self.examples)
        )

    def enough_examples(self) -> int | None:
        """Return about how many examples would tell a difference of this size; None if no number would."""
        return _fewest(self.examples, lambda n: self._would_tell(self.seeds, n))

    def _would_tell(self, seeds: tuple[float, float], examples: float) -> bool:
        quantiles = (0.5 + LEVEL / 2, LIKELY)
        return abs(self.mean) > sum(self._quantile(q, seeds, examples) for q in quantiles)

    def _quantile(self, quantile: float, seeds: tuple[float, float], examples: float) -> float:
        """Return the quantile of the error that is expected with so many seeds and examples."""
        from scipy.special import stdtrit  # of Student's t; slow to import

        of_seeds, df = self._of_seeds(seeds)
        of_examples = self.of_examples * self.examples / examples
        return math.sqrt(stdtrit(df, quantile) ** 2 * of_seeds + stdtrit(examples - 1, quantile) ** 2 * of_examples)

    def _of_seeds(self, seeds: tuple[float, float]) -> tuple[float, float]:
        """Return the squared error that comes from the choice of so many seeds, and its degrees of freedom."""
        parts = [variance / n for variance, n in zip(self.variances or (0.0, 0.0), seeds, strict=True)]
        below = sum(part**2 / (n - 1) for part, n in zip(parts, seeds, strict=True) if part)
        return sum(parts), min(sum(parts) ** 2 / below, 2.0 * (min(seeds) - 1)) if below else 1.0


def _fewest(least: int, enough: Callable[[float], bool]) -> int | None:
    """Return about the smallest number that is enough, at most 9 % too large; None if no number is."""
    numbers = (math.ceil(least * 2 ** (k / 8)) for k in range(400))
    return next((n for n in numbers if enough(n)), None) if enough(math.inf) else None


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
    variances = None
    if min(len(a), len(b)) > 1:
        variances = (float(first.mean(1).var(ddof=1)), float(second.mean(1).var(ddof=1)))
    of_examples = float(paired.var(ddof=1) / examples)
    return Difference(float(paired.mean()), (len(a), len(b)), examples, variances, of_examples)
