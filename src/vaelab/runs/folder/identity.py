"""What makes two runs the same run: the part of a configuration that can change the result, and a hash of it."""

import hashlib
import json
from typing import Any

BUDGET = ("trainer.max_epochs", "trainer.max_steps")  # how long, not what: a larger one continues
NOT_SCIENCE = (
    *BUDGET,
    "name",
    "rerun",
    "retry_failed",
    "data_dir",
    "logger",
    "sweep",
    "steps_per_call",
    "compile",
    "cuda_graphs",
    "seeds",
    "stacked",
    "callbacks.checkpoints.every_n_steps",
    "callbacks.collapse",
    "callbacks.figures",
    "callbacks.progress",
    "trainer.accelerator",
    "trainer.default_root_dir",
    "trainer.devices",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "trainer.profiler",
)
AS_IF_ABSENT = (("on_nan", "stop"),)  # a run that stops has no result
Flat = dict[str, Any]


def flatten(config: dict[str, Any], prefix: str = "") -> Flat:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`; lists and empty dicts are values."""
    flat: Flat = {}
    for key, value in config.items():
        nested = isinstance(value, dict) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def science(config: dict[str, Any]) -> Flat:
    """The part of a resolved configuration that can change the result, flat; a null is as if it were not there."""
    known = {key: _number(value) for key, value in flatten(config).items() if not is_control(key)}
    return {key: value for key, value in known.items() if value is not None and (key, value) not in AS_IF_ABSENT}


def identity(config: dict[str, Any]) -> str:
    """Eight hex digits that name the scientific configuration."""
    return hashlib.sha256(json.dumps(science(config), sort_keys=True).encode()).hexdigest()[:8]


def is_control(key: str) -> bool:
    """Whether a dotted key is one that cannot change the result, or lies below one."""
    return any(key == name or key.startswith(name + ".") for name in NOT_SCIENCE)


def budget(config: dict[str, Any]) -> dict[str, float]:
    """How long a configuration trains: epochs and steps, infinite where not limited."""
    flat = flatten(config)
    return {key: float("inf") if flat.get(key) in (None, -1) else flat[key] for key in BUDGET}


def _number(value: Any) -> Any:
    # 1 and 1.0 are one value, however they were typed
    return int(value) if isinstance(value, float) and value.is_integer() else value
