"""The comparability key: results may stand in one ranking only if their keys are equal."""

from collections.abc import Mapping
from typing import Any

from vaelab.estimators import Estimator

Key = dict[str, Any]


def comparability(
    record: Mapping[str, Any],
    split: str,
    examples: int,
    measure: str,
    estimators: Mapping[str, Any],
    dequantizations: int = 1,
) -> Key:
    """Return the comparability key: data set, split, pixel protocol, measure, and each estimator with its settings.

    Args:
        record: the result of `ImageData.record()`.
        split: the evaluated split.
        examples: how many examples of it were evaluated, from the first on.
        measure: `mass` or `density`.
        estimators: the settings of each estimator by name.
        dequantizations: how many draws of the dequantisation noise the estimate averages over.
    """
    protocol = {name: record[name] for name in ("pixels", "binarize") if name in record}
    return {
        "data": record["name"],
        "data_seed": record["seed"],
        "split": split,
        "sha256": record["sha256"][split],
        "examples": examples,
        "of": record["sizes"][split],
        **protocol,
        "measure": measure,
        "estimators": dict(estimators),
        "dequantizations": dequantizations,
    }


def settings(estimator: Estimator) -> dict[str, Any]:
    """Return an estimator's settings, without its memory limit, which does not change the result."""
    own = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
    known = {name: value for name, value in own.items() if name != "max_batch_elements"}
    ours = type(estimator).__module__.startswith("vaelab.")
    return known if ours else {"class": f"{type(estimator).__module__}.{type(estimator).__qualname__}", **known}
