"""Find the estimators of a stored configuration, and the numbers of each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from vaelab.data.pixels import MEASURES
from vaelab.errors import RunFolderError
from vaelab.estimators import Several
from vaelab.evaluation.comparability import Key, comparability, settings
from vaelab.security.allow_list import check_trusted
from vaelab.security.redaction import presentable


def of_run(config: Mapping[str, Any], record: Mapping[str, Any], file: Path) -> Key:
    """Return the comparability key of a run's metrics, from its stored configuration and its data's record.

    Raises:
        KeyError: the record lacks a value.
        RunFolderError: the stored estimator is not on the allow-list, or cannot be instantiated.
    """
    estimators = stored_estimators(config.get("estimator"), file)
    return comparability(record, "test", record["sizes"]["test"], MEASURES[record["pixels"]], estimators)


def by_estimator(key: Key, metrics: Mapping[str, Any]) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Yield, for each estimator of `key`, its own key, and the metrics of the split without prefixes.

    Its own key is the same whether other estimators ran beside it or not. Its texts are redacted and printable.
    """
    prefix = f"{key['split']}/"
    of_split = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    for name, chosen in key["estimators"].items():
        own = {full.removeprefix(f"{name}/"): value for full, value in of_split.items()}
        yield presentable({**key, "estimators": {name: dict(chosen)}}), own


def stored_estimators(node: Any, file: Path) -> dict[str, Any]:
    """Return the settings of each stored estimator, by the estimator's name.

    A class outside vaelab is not imported; its stored arguments are returned as its settings.
    """
    if not isinstance(node, dict) or not isinstance(target := node.get("_target_"), str):
        raise RunFolderError(f"{file}: estimator lacks _target_, the path of its class")
    if not target.startswith("vaelab."):
        own = {name: value for name, value in node.items() if name not in ("_target_", "max_batch_elements")}
        return {target.rpartition(".")[2]: {"class": target, **own}}
    check_trusted({"estimator": node}, (), file)
    try:
        made = instantiate(OmegaConf.create(node))
    except Exception as error:  # classes raise various errors for wrong arguments
        raise RunFolderError(f"{file}: estimator has arguments that its class does not accept") from error
    several = made.estimators if isinstance(made, Several) else {made.name: made}
    return {name: settings(estimator) for name, estimator in several.items()}
