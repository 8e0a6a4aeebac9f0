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
    """Return the comparability key of an evaluation of the first `examples` examples of a split.

    `record` comes from `ImageData.record`; `estimators` maps the name of each estimator to its settings.
    """
    return {
        "data": record["name"],
        "data_seed": record["seed"],
        "split": split,
        "sha256": record["sha256"][split],
        "examples": examples,
        "of": record["sizes"][split],
        **{name: record[name] for name in ("pixels", "binarize") if name in record},
        "measure": measure,
        "estimators": dict(estimators),
        "dequantizations": dequantizations,
    }


def settings(estimator: Estimator) -> dict[str, Any]:
    """Return an estimator's settings, without its memory limit, which does not change the result."""
    public = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
    public.pop("max_batch_elements", None)
    module, name = type(estimator).__module__, type(estimator).__qualname__
    return public if module.startswith("vaelab.") else {"class": f"{module}.{name}", **public}
