"""The allow-list: what a stored configuration may ask for.

A configuration names classes, and instantiating a class runs its code. A run folder may be untrusted, so its
configuration is checked before anything that it names is imported: it may name the public parts of vaelab, and
trusted packages.
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

from vaelab.errors import ConfigError, RunFolderError
from vaelab.security.untrusted import shown

PACKAGES = {"data": ("vaelab.data",), "objective": ("vaelab.objectives",), "estimator": ("vaelab.estimators",)}
OF_MODELS = (
    "vaelab.vae",
    "vaelab.hierarchical",
    "vaelab.heads",
    "vaelab.networks",
    "vaelab.priors",
    "torch.nn",
)  # for all other parts
HYDRAS = ("_target_", "_partial_", "_convert_")  # `_args_` is refused: the limits below need keys
ACTIVATIONS = "torch.nn.modules.activation"  # the only part of `torch.nn` that is allowed
MOST_COUNTED = {"objective": 10_000, "estimator": 1_000_000}  # limits of keys that begin with `num_`
MOST = 100_000_000  # limit of any other whole number in the same parts


def trusted_packages(trust: Any) -> tuple[str, ...]:
    """Return the packages that `trust=` names.

    Raises:
        ConfigError: `trust` is not a list of packages, or names a library that can run any code.
    """
    packages = [trust] if isinstance(trust, str) else list(trust) if OmegaConf.is_list(trust) else None
    if packages is None or not all(_is_path(package) for package in packages):
        raise ConfigError(f"trust must be a list of packages, found {shown(trust)}: type trust=[mypackage]")
    for package in packages:
        if package.split(".")[0] in _libraries():
            raise ConfigError(f"trust={package} would allow any code to run: name the package of your own models")
    return tuple(packages)


def own_packages(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the user's own packages that a configuration names; only for one that the user has typed."""
    roots = {str(target).split(".")[0] for _, key, target in entries(config) if key == "_target_"}
    roots -= {"vaelab", "torch", "pytorch_lightning"}  # the usual ones; to find all libraries takes a second
    return tuple(sorted(roots - _libraries())) if roots else ()


def _is_path(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def entries(node: Any, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted path, the key and the value of every entry of nested dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield f"{prefix}{key}", str(key), value
        yield from entries(value, f"{prefix}{key}.")


def check_trusted(config: dict[str, Any], trusted: Sequence[str], file: Path) -> None:
    """Refuse a stored configuration that names a class outside the allow-list, or an excessive number.

    Raises:
        RunFolderError: the message names the key, its value, and what to type if the user trusts it.
    """
    for path, key, value in entries(config):
        part = path.split(".")[0]
        if isinstance(value, str) and ("${" in value or value == "???"):
            raise RunFolderError(f"{file}: {shown(path)} is {shown(value)}, expected a value without ${{...}} or ???")
        if re.fullmatch("_.*_", key) and key not in HYDRAS:
            raise RunFolderError(f"{file}: {shown(path)} is not allowed in a stored run, only {', '.join(HYDRAS)}")
        if part == "estimator" and not re.fullmatch(r"\w+", key):  # an estimator's name becomes part of a file name
            raise RunFolderError(f"{file}: {shown(path)} is not a valid key, expected letters, digits and underscores")
        most = MOST_COUNTED.get(part, sys.maxsize) if ".num_" in path else MOST
        if part in MOST_COUNTED and isinstance(value, int) and value > most:
            raise RunFolderError(f"{file}: {shown(path)} must be at most {most:,}, found {shown(value)}")
        if key == "_target_" and not (_is_public(part, value) or _is_trusted(value, trusted, file)):
            wanted = f"expected a public name of {', '.join(PACKAGES.get(part, OF_MODELS))}"
            raise RunFolderError(f"{file}: {shown(path)} is {shown(value)}, {wanted}: {_remedy(value)}")
        if part == "data" and key == "_target_" and path != "data._target_":
            raise RunFolderError(f"{file}: {shown(path)} names a class, which only data._target_ may do")


def _is_public(part: str, target: Any) -> bool:
    public = set().union(*map(_public, PACKAGES.get(part, OF_MODELS)))
    return isinstance(target, str) and target in public


@cache
def _public(package: str) -> frozenset[str]:
    """Return the paths of the public classes and functions that a package itself defines.

    Imported names are left out, because an imported module may lead to any code.
    """
    defined_in = ACTIVATIONS if package == "torch.nn" else package
    members = vars(import_module(package)).items()
    offered = {name for name, found in members if not name.startswith("_") and _is_defined(found, defined_in)}
    return frozenset(f"{package}.{name}" for name in offered)


def _is_defined(found: Any, package: str) -> bool:
    return (inspect.isclass(found) or inspect.isfunction(found)) and f"{found.__module__}.".startswith(f"{package}.")


def _is_trusted(target: Any, trusted: Sequence[str], file: Path) -> bool:
    below = [package for package in trusted if _is_path(target) and target.startswith(f"{package}.")]
    if not below:
        return False
    begin = below[0]
    try:  # resolve the path as Hydra does: take an attribute if there is one, else import a module
        found = import_module(begin)
        for name in target.removeprefix(f"{begin}.").split("."):
            begin += f".{name}"
            found = getattr(found, name) if hasattr(found, name) else import_module(begin)
    except ImportError as error:
        raise RunFolderError(
            f"{file} names {target}, which cannot be imported ({error}): install it, or type the command in its folder"
        ) from error
    return any(_is_defined(found, package) for package in below)


def _remedy(target: Any) -> str:
    root, _, name = target.partition(".") if _is_path(target) else ("", "", "")
    if not name or root in _libraries():
        return "do not trust this folder"
    return f"type trust=[{root}], but only if you wrote that package or have read it"


@cache
def _libraries() -> frozenset[str]:
    """Return the top-level packages of Python, vaelab and all that vaelab requires; each can run any code."""
    left, required = ["vaelab"], set[str]()
    while left:
        name = _canonical(left.pop())
        if name not in required:
            required.add(name)
            with suppress(PackageNotFoundError):
                left += [line for line in requires(name) or () if "extra ==" not in line]
    roots = {root for root, names in packages_distributions().items() if required & set(map(_canonical, names))}
    return frozenset({*roots, *sys.stdlib_module_names, "vaelab"})


def _canonical(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""
