"""What a stored configuration may ask for: vaelab's own models and data, and the classes of packages that are trusted.

A configuration names classes, and making one runs code. A run folder may be a stranger's, so its configuration is
looked through before anything that it names is imported.
"""

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from vaelab.data import ImageData
from vaelab.errors import ConfigError, RunFolderError
from vaelab.security.untrusted import shown

MODELS = (
    *("vaelab.vae", "vaelab.networks", "vaelab.heads", "vaelab.heads.scales", "vaelab.priors.standard_normal"),
    "torch.nn.modules.activation",
)
DATA = tuple(f"vaelab.data.{name}" for name in ("array", "digits", "frey_face", "mnist", "mnist5k"))
ALLOWED = {"data": DATA, "objective": ("vaelab.objectives",), "estimator": ("vaelab.estimators",)}  # else MODELS
DEFINED_IN = {"torch.nn": "torch.nn.modules.activation"}  # where what goes by a shorter name is from
HYDRAS = ("_target_", "_partial_", "_convert_")  # `_args_` and `_recursive_` are not needed
OURS_TO_GIVE = ("data_dir", "batch_size", "batches_per_chunk", "shuffle_seed", "pause_every")
AT_MOST = {  # so much memory, or time, that it cannot be meant
    "objective.num_samples": 1_000,
    "estimator.num_samples": 1_000_000,
    "estimator.max_batch_elements": 100_000_000,
    "estimator.num_temperatures": 1_000_000,
    "estimator.num_chains": 10_000,
    "estimator.num_leapfrogs": 10_000,
    "estimator.num_simulated": 10_000,
    "estimator.num_draws": 1_000_000,
    "estimator.num_burn_in": 1_000_000,
}
Entry = tuple[str, str, Any]


def trusted_packages(trust: Any) -> tuple[str, ...]:
    """The packages that `trust=` names.

    Raises:
        ConfigError: it names something else, or a library that can do anything.
    """
    packages = [trust] if isinstance(trust, str) else list(trust) if OmegaConf.is_list(trust) else None
    if packages is None or not all(_is_package(package) for package in packages):
        raise ConfigError(f"trust must be a list of packages, found {shown(trust)}: type trust=[mypackage]")
    for package in packages:
        root = package.split(".")[0]
        if root in _libraries():
            raise ConfigError(f"trust={package} would let anything through: name a package of your own models")
    return tuple(packages)


def _is_package(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def check_plain(config: dict[str, Any], file: Path) -> None:
    """Whether a stored configuration is settled: no interpolation, no value left open, nothing but words and numbers.

    Raises:
        RunFolderError: names the first key that is not.
    """
    for path, key, value in entries(config):
        for text in (key, value):
            if isinstance(text, str) and ("${" in text or text == "???"):
                raise RunFolderError(f"{file}: {shown(path)} holds {shown(text)}, expected a value that is settled")
        if not isinstance(value, dict | list | str | int | float | None):
            raise RunFolderError(f"{file}: {shown(path)} is {shown(value)}, expected a word or a number")


def entries(node: Any, prefix: str = "") -> Iterator[Entry]:
    """All entries of nested dicts and lists: where it is, its own key, its value."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        path = f"{prefix}{key}"
        yield path, str(key), value
        yield from entries(value, f"{path}.")


def check_trusted(config: dict[str, Any], trusted: Sequence[str], file: Path) -> None:
    """Whether the part of a stored configuration that is made into objects asks for nothing but models and data.

    What a class is called is not enough, since a module's names lead to all that it imports: it is looked up, once its
    name says that doing so imports nothing else, and the module that *defines* it must be allowed as well.

    Raises:
        RunFolderError: names the key, what it asks for, and what to type if that is trusted.
    """
    for path, key, value in entries(config):
        if not (key.isprintable() and (not isinstance(value, str) or value.isprintable())):
            raise RunFolderError(f"{file}: {shown(path)} holds {shown(value)}, expected a printable word")
        if re.fullmatch("_.*_", key) and key not in HYDRAS:
            raise RunFolderError(f"{file}: {shown(path)} is not for a stored run, expected {', '.join(HYDRAS)}")
        if path.startswith("data.") and key in OURS_TO_GIVE:
            raise RunFolderError(f"{file}: {shown(path)} is not the folder's to choose: type data_dir=")
        most = AT_MOST.get(f"{path.split('.')[0]}.{key}")  # of one of several estimators as well
        if most is not None and isinstance(value, int | float) and value > most:
            raise RunFolderError(f"{file}: {path} must be at most {most:,}, found {shown(value)}")
        if key == "_target_":
            check_target(path, value, trusted, file)


def check_target(path: str, target: Any, trusted: Sequence[str], file: Path) -> None:
    """Whether one `_target_` is a class or function that a stored configuration may ask for.

    Raises:
        RunFolderError: it is not; names it, and what to type if it is trusted.
    """
    part = path.split(".")[0]
    if isinstance(target, str) and _is_package(target):
        below = [package for package in trusted if target.startswith(f"{package}.")]
        if below and _is_defined(_look_up(target, below[0], file), below):
            return
        module, _, name = target.rpartition(".")
        allowed = ALLOWED.get(part, MODELS)
        if DEFINED_IN.get(module, module) in allowed and not name.startswith("_"):
            found = _look_up(target, module, file)
            if _is_defined(found, allowed) and (part != "data" or _is_data(found)):
                return
    kind = "data set" if part == "data" else "part of a model"
    raise RunFolderError(
        f"{file}: {path} asks for {shown(target)}, which is no {kind} of vaelab's own{_remedy(target)}"
    )


def _look_up(target: str, begin: str, file: Path) -> Any:
    # as Hydra does: an attribute where there is one, else a module; both lie textually below what is allowed
    try:
        found = import_module(begin)
        for name in target.removeprefix(f"{begin}.").split("."):
            begin += f".{name}"
            found = getattr(found, name) if hasattr(found, name) else import_module(begin)
    except ImportError as error:
        raise RunFolderError(
            f"{file} asks for {target}, which is not here ({error}): stand where it is, or install it"
        ) from error
    return found


def _is_defined(found: Any, allowed: Sequence[str]) -> bool:
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return False
    return any(found.__module__ == module or found.__module__.startswith(f"{module}.") for module in allowed)


def _is_data(found: Any) -> bool:
    return inspect.isclass(found) and issubclass(found, ImageData) and found is not ImageData


def _remedy(target: Any) -> str:
    root = target.split(".")[0] if isinstance(target, str) and _is_package(target) else ""
    if not root or "." not in target or root in _libraries():
        return ": do not trust this folder"
    return f": type trust=[{root}], but only if you wrote that package or have read it"


@cache
def _libraries() -> frozenset[str]:
    """What comes with Python, and what vaelab requires, however indirectly: each of them can do anything."""
    left, required = ["vaelab"], set[str]()
    while left:
        name = _canonical(left.pop())
        if name not in required:
            required.add(name)
            with suppress(PackageNotFoundError):
                left += [line for line in requires(name) or () if "extra ==" not in line]
    roots = {root for root, names in packages_distributions().items() if required & set(map(_canonical, names))}
    return frozenset({*roots, *sys.stdlib_module_names, "vaelab", "setuptools", "pip"})


def _canonical(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
