"""Numbers of a table: errors of the choice of examples, and differences in which examples are paired."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vaelab.evaluation.paired import difference
from vaelab.pixels import bits_per_dim
from vaelab.reproducing import ImportanceWeighted
from vaelab.reproducing.results import Row
from vaelab.reproducing.tables import IN_BITS, Score, bits_of, contrast, error_of_examples, examples_of
from vaelab.runs.evaluating.complete import Evaluated

RNG = np.random.default_rng(0)
EXAMPLES = RNG.normal(0, 10, 50)  # how hard each example is, for all models alike


class Found(Evaluated):
    """An evaluation that stands in no file."""

    def __init__(self, metrics: dict[str, float], examples: dict[str, torch.Tensor]) -> None:
        super().__init__(metrics, Path())
        self.examples = examples


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


@pytest.mark.parametrize("pixels", ["unit", "levels"])
def test_bits_vary_over_examples_as_the_bits_of_each(pixels):
    nats = torch.tensor([1250.0, 1100.0, -30.0])
    bits = [bits_per_dim(value, (1, 28, 20), pixels, 256) for value in nats.tolist()]
    run: Any = SimpleNamespace(record={"data": {"event_shape": [1, 28, 20]}})
    found = bits_of(run, Found({IN_BITS: float(np.mean(bits))}, {"log_likelihood": nats}))
    np.testing.assert_allclose(np.diff(found.examples), np.diff(bits))


def test_digits_that_are_all_evaluated_leave_no_error():
    log_likelihood, elbo = torch.tensor([-90.0, -95.0, -85.0]), torch.tensor([-95.0, -99.0, -95.0])
    evaluated = Found({"gain": 6.3, "log_likelihood": -90.0}, {"log_likelihood": log_likelihood, "elbo": elbo})
    for size, error in ((3, 0.0), (12, (elbo - log_likelihood).std().item() / math.sqrt(3) * math.sqrt(3 / 4))):
        run: Any = SimpleNamespace(metrics={"test/elbo": -97.0}, record={"data": {"sizes": {"test": size}}})
        found = ImportanceWeighted("", "", {}, {}, {}).scores(run, evaluated)["nll"]
        assert found.value == pytest.approx(97 - 6.3)
        assert error_of_examples(examples_of([found])) == pytest.approx(error)


def test_a_setting_that_was_not_trained_has_no_difference():
    assert Row("setting", "nats", **contrast([], scores(1))).verdict == "not run at this budget"
