"""Numbers of a table: errors of the choice of examples, and differences in which examples are paired."""

import math
from dataclasses import replace

import numpy as np
import pytest

from vaelab.evaluation.paired import difference
from vaelab.reproducing.results import Row
from vaelab.reproducing.tables import Score, contrast, error_of_examples, examples_of

RNG = np.random.default_rng(0)
EXAMPLES = RNG.normal(0, 10, 50)  # how hard each example is, for all models alike


def scores(*means: float) -> list[Score]:
    found = [mean + EXAMPLES + RNG.normal(0, 0.1, 50) for mean in means]
    return [Score(float(values.mean()), values) for values in found]


def test_an_error_is_over_the_examples_that_all_seeds_share():
    found = scores(1, 2, 3)
    mean = np.mean([score.examples for score in found], axis=0)
    assert error_of_examples(examples_of(found)) == pytest.approx(mean.std(ddof=1) / math.sqrt(50))
    assert error_of_examples(examples_of([Score(1.0), Score(2.0)])) == 0
    found[0].examples[3] = math.nan
    assert math.isfinite(error_of_examples(examples_of(found)))


def test_a_difference_pairs_examples():
    first, second = scores(3, 3.1, 2.9), scores(1, 1.1, 0.9)
    row = Row("setting", "nats", **contrast(first, second))
    expected = difference([score.examples for score in first], [score.examples for score in second])
    assert row.mean == pytest.approx(expected.mean)
    assert row.margin == pytest.approx(expected.half_width)
    assert row.verdict == "apart"
    assert row.margin < error_of_examples(examples_of(first))


def test_a_difference_may_have_parts_that_do_not_depend_on_the_examples():
    first, second = ([Score(score.value + more, score.examples) for score in scores(0, 0)] for more in (5, 1))
    found = contrast(first, second)
    assert found["values"] == [pytest.approx(4, abs=0.2)]
    of_examples = difference([score.examples for score in first], [score.examples for score in second])
    assert found["half_width"] == pytest.approx(replace(of_examples, mean=4.0).half_width, rel=0.01)


def test_a_setting_that_was_not_trained_has_no_difference():
    assert Row("setting", "nats", **contrast([], scores(1))).verdict == "not run at this budget"
