"""The paired difference of two settings: exact values, intervals that cover, and advice on how much more is needed."""

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from vaelab.evaluation.paired import LEVEL, Difference, difference


def drawn(seeds: int, examples: int, seed: int, mean: float = 0.0) -> list[NDArray[np.float64]]:
    return list(np.random.default_rng(seed).normal(mean, 1.0, (seeds, examples)))


def test_one_seed_each_is_the_paired_t_test() -> None:
    (a,), (b,) = drawn(1, 30, 0, 0.3), drawn(1, 30, 1)
    found, expected = difference([a], [b]), stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(LEVEL)
    assert found.variances is None
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.error == pytest.approx(stats.sem(a - b))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    assert found.tells == (expected.pvalue < 1 - LEVEL)


@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 5), (8, 4)])
def test_seeds_alone_give_the_error_of_welch(first: int, second: int) -> None:
    rng = np.random.default_rng(first)
    a, b = rng.normal(0.5, 1.0, first), rng.normal(0.0, 3.0, second)
    example = np.linspace(-1, 1, 7)  # all seeds differ alike on all examples, so that examples add no error
    found = difference([example + value for value in a], [example + value for value in b])
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert found.mean == pytest.approx(a.mean() - b.mean())
    assert found.error == pytest.approx((a.mean() - b.mean()) / welch.statistic)
    df = min(welch.df, 2 * (min(first, second) - 1))
    assert found.half_width == pytest.approx(stats.t.ppf(0.975, df) * found.error)


def test_the_widths_of_seeds_and_examples_add_in_squares() -> None:
    a, b = drawn(3, 40, 0), drawn(4, 40, 1)
    found = difference(a, b)
    means = [np.mean(values, 1) for values in (a, b)]
    seeds = stats.ttest_ind(*means, equal_var=False)
    of_seeds = np.var(means[0], ddof=1) / 3 + np.var(means[1], ddof=1) / 4
    of_examples = stats.sem(np.mean(a, 0) - np.mean(b, 0)) ** 2
    assert found.error**2 == pytest.approx(of_seeds + found.of_examples)
    assert found.of_examples == pytest.approx(of_examples)
    squares = stats.t.ppf(0.975, min(seeds.df, 4)) ** 2 * of_seeds + stats.t.ppf(0.975, 39) ** 2 * of_examples
    assert found.half_width == pytest.approx(math.sqrt(squares))


def test_the_order_turns_only_the_sign() -> None:
    a, b = drawn(2, 20, 0), drawn(5, 20, 1)
    there, back = difference(a, b), difference(b, a)
    assert there.mean == pytest.approx(-back.mean)
    assert there.half_width == pytest.approx(back.half_width)


@pytest.mark.parametrize(("seeds", "scales"), [((2, 2), (1.0, 1.0)), ((3, 5), (1.0, 1.0)), ((3, 5), (0.3, 2.0))])
def test_the_interval_covers(seeds: tuple[int, int], scales: tuple[float, float]) -> None:
    rng, examples, truth = np.random.default_rng(0), 60, 0.5
    covered = []
    for _ in range(500):
        shared = rng.normal(0.0, 5.0, examples)  # how hard each example is
        sides = []
        for n, scale, mean in zip(seeds, scales, (truth, 0.0), strict=True):
            own = rng.normal(0.0, 1.0, examples)  # how a setting suits each example
            sides.append(shared + own + mean + rng.normal(0.0, 0.3 * scale, (n, 1)) + rng.normal(0, 0.5, (n, examples)))
        found = difference(*map(list, sides))
        covered.append(abs(found.mean - truth) <= found.half_width)
    assert np.mean(covered) >= 0.93


def test_an_example_that_a_seed_lacks_is_left_out_of_all() -> None:
    a, b = drawn(2, 20, 0), drawn(2, 20, 1)
    holed = [values.copy() for values in a]
    holed[1][[3, 7]] = math.nan
    kept = np.delete(np.arange(20), [3, 7])
    expected = difference([values[kept] for values in a], [values[kept] for values in b])
    assert difference(holed, b) == expected
    assert expected.examples == 18


def test_equal_settings_are_not_told_apart() -> None:
    a = drawn(3, 20, 0)
    found = difference(a, a)
    assert (found.mean, found.tells) == (0.0, False)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ([np.zeros(3)], [np.zeros(4)], "the same examples"),
        ([np.zeros(1)], [np.zeros(1)], "at least two examples"),
        ([np.array([1.0, math.nan])], [np.zeros(2)], "at least two examples, found 1"),
    ],
)
def test_values_that_do_not_pair_are_refused(
    a: list[NDArray[np.float64]], b: list[NDArray[np.float64]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        difference(a, b)


def test_the_seeds_asked_for_would_tell_the_difference() -> None:
    rng, truth, wrong = np.random.default_rng(1), 1.0, 0.2
    asked = Difference(truth, (3, 3), 10_000, (1.0, 1.0), 1e-9).enough_seeds()
    assert asked is not None
    told = []
    for _ in range(400):
        a, b = rng.normal(truth, 1.0, asked), rng.normal(0.0, 1.0, asked)
        told.append(difference([np.full(5, value) for value in a], [np.full(5, value) for value in b]).tells)
    assert np.mean(told) == pytest.approx(0.8, abs=wrong / 2)


def test_more_examples_are_asked_for_a_smaller_difference() -> None:
    asked = [Difference(mean, (1, 1), 100, None, 0.01).enough_examples() for mean in (0.2, 0.1, 0.05)]
    assert all(a is not None and b is not None and 3 < b / a < 5 for a, b in pairwise(asked))
    half = stats.t.ppf(0.975, 1e4) + stats.t.ppf(0.8, 1e4)
    assert asked[2] == pytest.approx((half / 0.05) ** 2, rel=0.1)  # one example has variance 1


def test_no_examples_make_up_for_the_noise_of_seeds() -> None:
    assert Difference(0.1, (3, 3), 100, (1.5, 1.5), 0.01).enough_examples() is None


def test_no_seeds_make_up_for_the_noise_of_examples() -> None:
    assert Difference(0.1, (3, 3), 100, (1.5, 1.5), 0.01).enough_seeds() is None
    many = Difference(0.1, (3, 3), 100, (1.5, 1.5), 1e-6).enough_seeds()
    assert many is not None
    assert many > 1000


@pytest.mark.parametrize(("seeds", "variances"), [((2, 12), (1.0, 1.0)), ((2, 12), (0.2, 4.0)), ((12, 2), (0.2, 4.0))])
def test_the_seeds_asked_for_are_right_for_unequal_numbers(
    seeds: tuple[int, int], variances: tuple[float, float]
) -> None:
    asked = Difference(1.5, seeds, 10_000, variances, 1e-9).enough_seeds()
    assert asked is not None
    rng, told = np.random.default_rng(0), []
    for _ in range(400):
        a, b = (rng.normal(mean, v**0.5, max(n, asked)) for mean, v, n in zip((1.5, 0), variances, seeds, strict=True))
        told.append(difference([np.full(5, value) for value in a], [np.full(5, value) for value in b]).tells)
    assert np.mean(told) == pytest.approx(0.8, abs=0.12)
