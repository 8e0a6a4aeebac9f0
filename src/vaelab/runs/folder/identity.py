"""What makes two runs the same run: the part of a configuration that can change the result, and a hash of it."""

import hashlib
import json
import re
from typing import Any

from vaelab.errors import ConfigError
from vaelab.runs.configuration import RUNTIME

BUDGET = ("trainer.max_epochs", "trainer.max_steps")  # how long a run trains; a larger budget continues the run
WHERE = ("initialization.run_dir", "initialization.checkpoint")  # of weights, which `initialization.sha256` identifies
Flat = dict[str, Any]


def flatten(config: dict[str, Any], prefix: str = "") -> Flat:
    """Return `{"a": {"b": 1}}` as `{"a.b": 1}`; lists and empty dicts are values. Refuse a key that is no text."""
    flat: Flat = {}
    for key, value in config.items():
        if not isinstance(key, str):
            raise ConfigError(f"the keys of {prefix.rstrip('.')} must be texts, found {key!r}")
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def science(config: dict[str, Any]) -> Flat:
    """Return the part of a resolved configuration that can change the result, as dotted key → value.

    A key whose value is null is left out, as if it were missing. A class of vaelab is named without its module, so that
    moving the class to another file does not rename its runs.
    """
    flat = flatten({key: _comparable(value) for key, value in config.items()})
    spare = WHERE if flat.get("initialization._target_") == "from_run" else ()
    return {key: value for key, value in flat.items() if value is not None and not is_control(key) and key not in spare}


def identity(config: dict[str, Any]) -> str:
    """Return eight hex digits: a hash of the scientific configuration."""
    return digest(json.dumps(science(config), sort_keys=True))


def digest(text: str) -> str:
    """Return eight hex digits: a hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def is_control(key: str) -> bool:
    """Return whether a key, typed or stored, cannot change the result: the budget, `sweep`, or a key below `runtime`.

    The group `sweep` fills Hydra's own node, which is not part of a run's configuration.
    """
    return key in BUDGET or key == "sweep" or re.split("[./@]", key)[0] == RUNTIME


def budget(config: dict[str, Any]) -> dict[str, float]:
    """Return a configuration's limits of epochs and optimiser steps; infinity stands for no limit."""
    flat = flatten(config)
    return {key: float("inf") if flat.get(key) in (None, -1) else flat[key] for key in BUDGET}


def _comparable(node: Any, key: str = "") -> Any:
    """Make equal settings compare equal: 1.0 becomes 1, and a class of vaelab loses the path of its module."""
    if isinstance(node, dict):
        return {name: _comparable(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_comparable(value) for value in node]
    if key == "_target_" and isinstance(node, str) and node.startswith("vaelab."):
        return node.rpartition(".")[2]
    return int(node) if isinstance(node, float) and node.is_integer() else node


def is_run_id(value: Any) -> bool:
    """Return whether W&B takes a value as a run's id; it is part of the names of W&B's files, and so must be short."""
    fits = isinstance(value, str) and value.isprintable() and 1 <= len(value.encode()) <= 128
    return fits and value == value.strip() and not set(value) & set("/\\#?%:;,'")
