"""Say in which parts comparability keys differ, and what to type to make them equal."""

from collections.abc import Mapping, Sequence

from vaelab.evaluation.comparability import Key, estimator_of

Parts = Mapping[str, Sequence[str]]  # part of a key → its values, each once
OF_EVALUATION = {  # part of a key → what sets it in vaelab.evaluate
    "estimators": "estimator= and num_samples=",
    "split": "split=",
    "examples": "limit=",
    "pixels": "measure=mass",  # those of masses and densities; binary pixels stand apart
    "measure": "measure=mass",
    "dequantizations": "dequantizations=",
    "fitted_prior": "prior=",
}
OF_TRAINING = {"data_seed": "data.seed=", "binarize": "data.binarize="}


def parts_that_differ(keys: Sequence[Key]) -> Parts:
    """Return the parts in which keys differ; empty if only the images differ."""
    told = [key | {"estimators": estimator_of(key)} for key in keys]
    names = dict.fromkeys(name for key in told for name in key if name not in ("sha256", "of"))
    found = {name: list(dict.fromkeys(str(key.get(name, "none")) for key in told)) for name in names}
    return {name: values for name, values in found.items() if len(values) > 1}


def named(parts: Parts) -> str:
    """Return the parts in which keys differ as text, such as `pixels (binary, unit)`."""
    return (
        "; ".join(f"{name.replace('_', ' ')} ({', '.join(values)})" for name, values in parts.items()) or "the images"
    )


def remedy(parts: Parts) -> str:
    """Say what to type so that two runs get the same key."""
    if "binary" in parts.get("pixels", ()):
        return "no number compares binary pixels with others: train both with decoders for the same pixels"
    if parts and parts.keys() <= OF_EVALUATION.keys():
        typed = dict.fromkeys(OF_EVALUATION[name] for name in parts)
        return f"type python -m vaelab.evaluate run_dir=FOLDER for both, with the same {' and '.join(typed)}"
    needed = dict.fromkeys(OF_TRAINING.get(name, "data=") for name in parts if name not in OF_EVALUATION) or ["data="]
    return f"train both with the same {' and '.join(needed)}"
