"""The comparability key: results may stand in one ranking only if their keys are equal."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from vaelab.estimators import BY_NAME, Estimator

Key = dict[str, Any]
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)  # made once, because a report calls it 100,000 times


def comparability(
    record: Mapping[str, Any],
    split: str,
    examples: int,
    measure: str,
    estimators: Mapping[str, Any],
    dequantizations: int = 1,
    fitted_prior: str | None = None,
) -> Key:
    """Return the comparability key of an evaluation of the first `examples` examples of a split.

    It holds everything that defines the scored number, except the model and its random draws. `record` comes from
    `ImageData.record`; `estimators` maps the name of each estimator to its settings; `fitted_prior` describes a prior
    that has taken the place of the trained one.
    """
    return {
        "data": record["name"],
        "data_seed": record["seed"],
        "split": split,
        "sha256": record["sha256"][split],
        "examples": examples,
        "of": record["sizes"][split],
        **{name: record[name] for name in ("event_shape", "num_levels")},
        **{name: record[name] for name in ("pixels", "binarize") if name in record},
        "measure": measure,
        "estimators": dict(estimators),
        "dequantizations": dequantizations,
        **({"fitted_prior": fitted_prior} if fitted_prior else {}),
    }


def as_text(key: Any) -> str:
    """Return plain data, such as a key, as text; equal values give equal texts."""
    return _ENCODER.encode(key)


def name_of(key: Key) -> str:
    """Return a short name of a key: data, pixels, estimator, and a hash of the whole key."""
    digest = hashlib.sha256(as_text(key).encode()).hexdigest()[:8]
    parts = [key["data"], key["pixels"], key.get("binarize"), *estimator_of(key).partition(" (")[0].split(), digest]
    return "-".join(part.replace("=", "") for part in parts if part is not None)


def estimator_of(key: Key) -> str:
    """Describe the only estimator of a key by its name, K if it has one, and other settings that are not defaults."""
    ((name, settings),) = key["estimators"].items()
    named = f"{name} K={settings['num_samples']}" if "num_samples" in settings else name
    defaults = {field.name: field.default for field in fields(BY_NAME[name])} if name in BY_NAME else {}
    told = [each for each in settings.items() if each[0] != "num_samples" and each not in defaults.items()]
    listed = ", ".join(f"{setting} {value}" for setting, value in told)
    return f"{named} ({listed})" if listed else named


def settings(estimator: Estimator) -> dict[str, Any]:
    """Return an estimator's settings, without its memory limit, which does not change the result."""
    public = {name: value for name, value in vars(estimator).items() if not name.startswith("_")}
    public.pop("max_batch_elements", None)
    module, name = type(estimator).__module__, type(estimator).__qualname__
    return public if module.startswith("vaelab.") else {"class": f"{module}.{name}", **public}
