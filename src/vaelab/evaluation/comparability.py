"""Which numbers may stand in one ranking: those of the same data, pixels, measure and estimator."""

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
    """Data set, split, pixel protocol, measure, and each estimator with its settings.

    Args:
        record: of `ImageData.record()`.
        split: the one that was evaluated, and how many `examples` of it, from its beginning.
        measure: `mass` or `density`.
        estimators: name → settings.
        dequantizations: draws of the noise that the estimate is a mean over.
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
    """What an estimator was told, but for its memory, which changes no number."""
    own = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
    known = {name: value for name, value in own.items() if name != "max_batch_elements"}
    ours = type(estimator).__module__.startswith("vaelab.")
    return known if ours else {"class": f"{type(estimator).__module__}.{type(estimator).__qualname__}", **known}
