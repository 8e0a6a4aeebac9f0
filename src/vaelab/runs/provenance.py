"""Where a result comes from: the command, the commits of the code, and the source of the user's own classes."""

import hashlib
import inspect
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from hydra._internal.utils import _locate
from torch import nn

from vaelab.runs.command_line import COMMAND
from vaelab.runs.folder.contents import other_code, stored_classes
from vaelab.runs.own_code import is_own_file
from vaelab.security.allow_list import entries

PATIENCE = 10  # seconds that git may take
PACKAGE = Path(__file__).parents[1]
log = logging.getLogger(__name__)
Classes = dict[str, str]  # name → SHA-256 of the source


def provenance(config: Mapping[str, Any], module: nn.Module) -> dict[str, Any]:
    """Return what made a run, as plain data.

    - `command`: the command line, redacted; None in a notebook.
    - `vaelab`: its version, and its commit in a git checkout; `clean` says whether no tracked file had changed.
    - `repository`: commit and `clean` of the git repository with the working folder; None if it is in none.
    - `classes`: the user's own, as `classes_of` finds them.
    """
    own = {"version": version("vaelab"), **(_of_package() or {"commit": None, "clean": None})}
    command, repository = os.environ.get(COMMAND), _state_of(Path.cwd())
    return {"command": command, "vaelab": own, "repository": repository, "classes": classes_of(config, module)}


def classes_of(config: Mapping[str, Any], module: nn.Module) -> Classes:
    """Return a hash of the source of each class and function of the user's own, with their base classes.

    They are those that the configuration names, and those of the module's parts. Packages that are installed are not
    the user's own.
    """
    found = _parts([*_named(config).values(), *map(type, module.modules())])
    if changed := sorted(name for name, one in found.items() if _written(one) != _source(one)):
        message = "%s changed in its file, but not in this process, which imported it before: restart Python to use it"
        log.warning(message, ", ".join(changed))
    return _hashes(found)


def warn_of_changed_code(path: Path, config: Mapping[str, Any]) -> None:
    """Warn if classes of the user's own differ from those that trained the finished run.

    Only the classes of `config` are imported, because the folder, which tells the other names, may be a stranger's.
    """
    named = _named(config)
    known = {name: named.get(name) or _loaded(name) for name in stored_classes(path)}
    gone = [name for name in known.keys() & named if known[name] is None]
    here = dict.fromkeys(gone, "") | _hashes(_parts(known.values()))
    for warning in other_code(path, here, "its numbers are of the former code: rerun=true trains it again"):
        log.warning("%s: %s", path.name, warning)


def _named(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the configuration names as `_target_`: name → the imported class, or None if that fails."""
    return {name: _located(name) for _, key, name in entries(dict(config)) if key == "_target_"}


def _loaded(name: str) -> Any:
    """Return a class of a module that is imported already; None for others."""
    module, _, own = name.rpartition(".")
    return getattr(sys.modules.get(module), own, None)


def _parts(used: Iterable[Any]) -> dict[str, Any]:
    """Return the classes, with their base classes, and the functions in `used`, by name."""
    kinds = (type, FunctionType, MethodType)
    parts = (part for one in used if isinstance(one, kinds) for part in getattr(one, "__mro__", [one]))
    return {f"{one.__module__}.{one.__qualname__}": one for one in parts}


def _hashes(found: Mapping[str, Any]) -> Classes:
    sources = {name: _source(one) for name, one in found.items()}
    hashes = {name: hashlib.sha256(source.encode()).hexdigest() for name, source in sources.items() if source}
    return dict(sorted(hashes.items()))


def _located(name: str) -> Any:
    with suppress(Exception):  # it is gone, or fails when it is imported
        return _locate(name)


@cache  # because this process keeps running the code that it imported, whatever is written to the file later
def _source(one: Any) -> str | None:
    """Return the source of a class or function of the user's own as it was at the first call; None for others."""
    return _written(one)


def _written(one: Any) -> str | None:
    try:
        return inspect.getsource(one) if is_own_file(inspect.getsourcefile(one) or "") else None
    except (OSError, TypeError, SyntaxError):
        # it is built in, its file is being written, or it is a class of a notebook, whose functions alone have a source
        methods = vars(one).values() if isinstance(one, type) and one.__module__ == "__main__" else ()
        return "".join(inspect.getsource(method) for method in methods if inspect.isfunction(method)) or None


@cache  # because this process keeps running the code that it imported, whatever is committed later
def _of_package() -> dict[str, Any] | None:
    return _state_of(PACKAGE) if _git(PACKAGE, "ls-files", "__init__.py") else None


def _state_of(folder: Path) -> dict[str, Any] | None:
    """Return the commit of a folder's git repository, and whether its tracked files are unchanged; None if unknown."""
    if commit := _git(folder, "rev-parse", "HEAD"):
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return {"commit": commit, "clean": None if changes is None else changes == ""}
    return None


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says; None if it fails."""
    line = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # so that git only reads
    with suppress(OSError, subprocess.SubprocessError):
        ran = subprocess.run(line, capture_output=True, text=True, check=True, timeout=PATIENCE, env=environment)
        return ran.stdout.strip()
    return None
