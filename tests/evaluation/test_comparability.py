"""The comparability key: whatever defines the scored number sets two keys, and their names, apart."""

from typing import Any

import numpy as np
import pytest

from tests.helpers.choices import part
from vaelab.data import ImageData, Split
from vaelab.estimators import AnnealedImportanceSampling, ImportanceSampling, RefinedImportanceSampling
from vaelab.evaluation.comparability import comparability, estimator_of, name_of, settings
from vaelab.pixels import MEASURES
from vaelab.runs.estimates import by_estimator


class Made(ImageData):
    """Twelve images that `change` may reorder or reshape; 16 or 256 levels say what their bytes mean."""

    name = "made"

    def __init__(self, num_levels: int = 16, change: Any = lambda images: images, pixels: str = "unit", **kwargs: Any):
        self.num_levels, self.change = num_levels, change
        super().__init__(**kwargs)
        self.serve(pixels)

    def splits(self) -> Any:
        images = self.change(np.arange(12 * 4, dtype=np.uint8).reshape(12, 1, 2, 2) % 16)
        return {name: Split(images[i::3]) for i, name in enumerate(("train", "val", "test"))}


def key(estimator: Any = None, split: str = "test", examples: int = 4, again: int = 1, measure: str = "", **data: Any):
    made, estimator = Made(**data), estimator or ImportanceSampling(5)
    measure = measure or MEASURES[made.pixels or ""]
    return comparability(made.record(), split, examples, measure, {estimator.name: settings(estimator)}, again)


CHANGES = {
    "levels": {"num_levels": 256},
    "order": {"change": lambda images: np.roll(images, 1, axis=0)},
    "shape": {"change": lambda images: images.reshape(12, 1, 1, 4)},
    "protocol": {"pixels": "levels"},
    "measure": {"measure": "mass"},
    "draws": {"seed": 1},
    "split": {"split": "val"},
    "examples": {"examples": 3},
    "dequantisations": {"again": 2},
    "K": {"estimator": ImportanceSampling(6)},
    "estimator": {"estimator": AnnealedImportanceSampling()},
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_defines_the_number_sets_keys_apart(name: str) -> None:
    assert key(**CHANGES[name]) != key() == key()
    assert name_of(key(**CHANGES[name])) != name_of(key()) == name_of(key())


def test_an_estimator_is_described_without_defaults() -> None:
    assert estimator_of(key(RefinedImportanceSampling(7))) == "refined K=7"
    assert estimator_of(key(RefinedImportanceSampling(7, rate=0.2))) == "refined K=7 (rate 0.2)"
    assert estimator_of(key(AnnealedImportanceSampling(num_chains=3))) == "ais (num_chains 3)"


def test_binarisation_sets_keys_apart() -> None:
    names = {name_of(key(pixels="binary", binarize=way)) for way in ("dynamic", "fixed", "threshold")}
    assert len(names) == 3


def test_the_memory_limit_does_not_set_keys_apart() -> None:
    assert key(estimator=ImportanceSampling(5, max_batch_elements=7)) == key()


def test_an_estimator_has_one_name_alone_or_beside_others() -> None:
    several = part("estimator", "all").estimators
    together = key() | {"estimators": {name: settings(each) for name, each in several.items()}}
    metrics = {f"test/{name}/log_likelihood": i for i, name in enumerate(several)} | {"test/elbo": 9, "steps": 3}
    found = {name_of(own): numbers for own, numbers in by_estimator(together, metrics)}
    alone = [next(by_estimator(key(each), {"test/log_likelihood": i})) for i, each in enumerate(several.values())]
    assert [name_of(own) for own, _ in alone] == list(found)
    assert [numbers["log_likelihood"] for numbers in found.values()] == list(range(len(several)))
    assert all(numbers["elbo"] == 9 for numbers in found.values())
