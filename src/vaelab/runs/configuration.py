"""The configuration: where Hydra finds it, what may be typed, and as plain data."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.plugins import register_plugins
from vaelab.security.redaction import redacted

_BESIDE_PACKAGE = Path(__file__).parents[1] / "conf"  # in a wheel
_IN_CHECKOUT = Path(__file__).parents[3] / "conf"
CONF = str(_BESIDE_PACKAGE if _BESIDE_PACKAGE.exists() else _IN_CHECKOUT)
REPORTING_CONF = str(Path(CONF) / "reporting")  # here `sweep=` names a folder; in `CONF` it names a group of choices
RUNTIME = "runtime"  # the node of everything that cannot change the result of a run


register_plugins()  # or no configuration of `CONF` composes


def contents(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain data, without Hydra's own node."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents, redacted: to write down, not to build from."""
    return cast(dict[str, Any], redacted(contents(cfg)))


def full_keys(config: str, overrides: Sequence[str]) -> list[str]:
    """Put `runtime.` before the keys that may be typed without it: `devices=2`, `~callbacks.figures`, `logger=csv`.

    A key is one of those if more of it is found below the `runtime` node of `conf/CONFIG.yaml` than at the top.

    Args:
        config: which configuration: `train` or `evaluate`.
        overrides: words of a command line; those that are no overrides are returned as they are.

    Raises:
        ConfigError: `trainer.KEY`, where KEY lies below `runtime`; or `trainer=`, which is no group of choices.
    """
    return [_full_key(override, *_keys(config)) for override in overrides]


def choices() -> str:
    """Return each group's choices, each with the first comment of its file, for `--help`."""
    found: dict[str, list[Path]] = {}
    for file in sorted(Path(CONF).rglob("*.yaml")):
        group = str(file.parent.relative_to(CONF)).removeprefix(f"{RUNTIME}/")
        if group not in (".", "hydra/help") and not group.startswith("reporting"):
            found.setdefault(group, []).append(file)
    lines = []
    for group in sorted(found, key=lambda group: (group.startswith("hydra"), group)):
        lines.append(f"  {group}")
        for file in found[group]:
            comments = re.findall("^# (?!@)(.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            lines.append(f"    {file.stem:18} {comments[0] if comments else ''}".rstrip())
    return "\n".join(lines).replace("$", "$$")  # Hydra substitutes in the text


def short_key(key: str) -> str:
    """Return a dotted key as it is typed, without `runtime.`."""
    return key.removeprefix(f"{RUNTIME}.")


@cache
def _keys(config: str) -> tuple[Mapping[str, Any], Mapping[str, Any], frozenset[str]]:
    """Return what is at the top of a configuration, what is below `runtime`, and which of that are groups."""
    top = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(Path(CONF) / f"{config}.yaml")))
    defaults = [entry for entry in top.pop("defaults", []) if isinstance(entry, dict)]
    groups = {group for entry in defaults for group in entry if not group.startswith("override ")}
    below = {group.removeprefix(f"{RUNTIME}/") for group in groups if group.startswith(f"{RUNTIME}/")}
    runtime = top.get(RUNTIME, {}) | {key: {} for key in below}
    return {key: {} for key in groups} | top, runtime, frozenset(below)


def _full_key(override: str, top: Mapping[str, Any], runtime: Mapping[str, Any], groups: frozenset[str]) -> str:
    found = re.fullmatch(r"([+~]*)([\w.]+)(=.*)?", override, flags=re.DOTALL)
    if found is None or not (found[1].startswith("~") or found[3]):
        return override
    sign, key, value = found[1], found[2], found[3] or ""
    parts = key.split(".")
    if parts[0] == "trainer" and len(parts) > 1 and parts[1] in runtime:
        raise ConfigError(f"{key} is no key any more: type {parts[1]}{value}")
    if key == "trainer" and value in ("=default", "=ddp"):
        raise ConfigError(f"trainer is no choice any more, found {key}{value}: type devices=2 for two processes")
    if _depth(runtime, parts) <= _depth(top, parts):
        return override
    return f"{sign}{RUNTIME}{'/' if key in groups else '.'}{key}{value}"


def _depth(node: Any, parts: Sequence[str]) -> int:
    """Return how many of the parts, from the first on, lead down into the node."""
    inside = isinstance(node, Mapping) and bool(parts) and parts[0] in node
    return 1 + _depth(node[parts[0]], parts[1:]) if inside else 0
