"""Which numbers may stand in one ranking: those of the same data, pixels, measure and estimator."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaelab.estimators import Estimator, Several
from vaelab.measures import MEASURES
from vaelab.trust import check_plain, check_trusted
from vaelab.untrusted import RunFolderError

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


def of_run(config: Mapping[str, Any], record: Mapping[str, Any], file: Path) -> Key:
    """The comparability of what a run's `metrics.json` says of its test.

    Args:
        config: the stored configuration.
        record: of the data, as `record.json` has it.
        file: the configuration's, for messages.

    Raises:
        RunFolderError: an estimator that may not be asked for.
        KeyError: a record that lacks something.
    """
    estimators = stored_estimators(config.get("estimator"), file)
    return comparability(record, "test", record["sizes"]["test"], MEASURES[record["pixels"]], estimators)


def stored_estimators(node: Any, file: Path) -> dict[str, Any]:
    """Name → settings of the estimators in a stored configuration; of a class that is not ours, what stands there.

    Raises:
        RunFolderError: no estimator, or one that could not be evaluated either.
    """
    if not isinstance(node, dict) or not isinstance(target := node.get("_target_"), str):
        raise RunFolderError(f"{file}: estimator names no class: expected _target_")
    if not target.startswith("vaelab."):
        own = {name: value for name, value in node.items() if name not in ("_target_", "max_batch_elements")}
        return {target.rpartition(".")[2]: {"class": target, **own}}
    check_plain({"estimator": node}, file)
    check_trusted({"estimator": node}, (), file)
    try:
        made = instantiate(OmegaConf.create(node))
    except Exception as error:  # of arguments that it does not take
        raise RunFolderError(f"{file}: estimator cannot be made of what stands there") from error
    several = made.estimators if isinstance(made, Several) else {made.name: made}
    return {name: settings(estimator) for name, estimator in several.items()}


def settings(estimator: Estimator) -> dict[str, Any]:
    """What an estimator was told, but for its memory, which changes no number."""
    own = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
    known = {name: value for name, value in own.items() if name != "max_batch_elements"}
    ours = type(estimator).__module__.startswith("vaelab.")
    return known if ours else {"class": f"{type(estimator).__module__}.{type(estimator).__qualname__}", **known}
