"""The tags of a W&B run, the names of its metrics, and the command that uploads it."""

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from vaelab.evaluation.comparability import Key, name_of
from vaelab.runs.estimates import by_estimator
from vaelab.runs.tracking.wandb_options import LONGEST_TAG, fitting

BEST = {"val/elbo": max, "val/bits_per_dim": min}  # curves whose best value W&B's summary keeps
TAGGED = ("data", "decoder.head", "prior", "objective")
DECODER = "runtime.choices.decoder"  # where configurations have the name of the decoder's YAML
ESTIMATE = "log_likelihood"
LOGGER = "vaelab.runs.tracking.wandb"  # the logger's name in configurations


def define_metrics(run: Any) -> None:
    """Make W&B draw every curve over `samples_seen`, and keep the best value of each metric in `BEST`."""
    run.define_metric("samples_seen")
    run.define_metric("*", step_metric="samples_seen")
    for name, best in BEST.items():
        run.define_metric(name, step_metric="samples_seen", summary=f"{best.__name__},last")


def classes(config: Any) -> Iterator[str]:
    """Yield the names of the classes in a plain configuration, outermost first."""
    if isinstance(config, Mapping):
        if isinstance(target := config.get("_target_"), str):
            yield target.rpartition(".")[2]
        for value in config.values():
            yield from classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from classes(value)


def at(config: Any, key: str) -> Any:
    """Return the value at a dotted key of a plain configuration, or None if there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def decoder_of(config: Mapping[str, Any]) -> str:
    """Return the decoder's name as it was typed, or the classes of its head if it has no YAML."""
    return str(at(config, DECODER) or " ".join(classes(at(config, "decoder.head"))))


def logs_to_wandb(config: Mapping[str, Any]) -> bool:
    """Return whether a run of this configuration has a W&B run."""
    return at(config, "runtime.logger._target_") == LOGGER and at(config, "runtime.logger.mode") != "disabled"


def tags_of(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the classes of data, likelihood, prior and objective."""
    names = [fitting(name, LONGEST_TAG) for key in TAGGED for name in classes(at(config, key))]
    return list(dict.fromkeys(names))


def within(key: Key, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the second names that estimates of log p(x) have in W&B, with their values.

    W&B's panels show all runs that have a metric. So numbers that may not be compared, such as a mass and a density,
    need names of their own: `within/NAME/log_likelihood`, where NAME is that of their comparability key.
    """
    estimates = [(own, numbers.get(ESTIMATE)) for own, numbers in by_estimator(key, metrics)]
    return {second_name(own): value for own, value in estimates if value is not None}


def second_name(key: Key) -> str:
    """Return the name in W&B of the estimate of log p(x) with this comparability key, of one estimator."""
    return f"within/{name_of(key)}/{ESTIMATE}"


def check_login() -> None:
    """Raise a PermissionError if this machine has no W&B key, or `WANDB_MODE` is not online. Never prompt."""
    from wandb import Settings, login, setup

    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        raise PermissionError(f"save=true needs W&B, and WANDB_MODE={mode} prevents it: unset WANDB_MODE")
    setup(Settings(silent=True))
    if not login(prompt=False, verify=False):
        raise PermissionError("save=true needs a W&B account, and this machine has no W&B key: type wandb login first")


def sync_line(folder: Path, configs: Iterable[Mapping[str, Any]] = ()) -> str | None:
    """Return the command that uploads the offline W&B runs of a run folder or of a sweep, with relative paths.

    Return None if there is nothing left to upload. The `configs` of the runs may name folders elsewhere (`logger.dir`).
    """
    elsewhere = {os.path.expanduser(str(place)) for config in configs if (place := at(config, "runtime.logger.dir"))}
    places = [(folder, "*/wandb"), (folder, "wandb"), *((Path(place), "wandb") for place in sorted(elsewhere))]
    found = []
    for path, runs in places:
        if any(not list(run.glob("*.synced")) for run in path.glob(f"{runs}/offline-run-*")):
            found.append(f"{shlex.quote(os.path.relpath(path))}/{runs}/offline-run-*")
    return " ".join(["wandb sync", *found]) if found else None
