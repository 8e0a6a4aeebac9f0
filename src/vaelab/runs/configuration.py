"""The configuration: where Hydra finds it, which keys and choices it has, and its content as plain data."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.security.redaction import redacted

_BESIDE_PACKAGE = Path(__file__).parents[1] / "conf"  # in a wheel
_IN_CHECKOUT = Path(__file__).parents[3] / "conf"
CONF = str(_BESIDE_PACKAGE if _BESIDE_PACKAGE.exists() else _IN_CHECKOUT)
RUNTIME = "runtime"  # the node of everything that cannot change the result of a run


def _let_ours_replace_hydras() -> None:
    """Unregister Hydra's schemas of launchers and sweepers named like ours, because ours would fail their checks."""
    Plugins.instance()  # registers Hydra's schemas
    for group in ("launcher", "sweeper"):
        for file in Path(CONF, "hydra", group).iterdir():
            ConfigStore.instance().repo["hydra"][group].pop(file.name, None)


_let_ours_replace_hydras()  # without this, no configuration in `CONF` composes


def contents(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain data, without Hydra's own node."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents to store or hash, not to build from: redacted, and without this machine's paths."""
    found = contents(cfg)
    found.get(RUNTIME, {}).pop("data_dir", None)
    return cast(dict[str, Any], redacted(found))


def choices() -> str:
    """Return each group's choices, each with the first comment of its file, for `--help`."""
    lines: dict[str, list[str]] = {}
    for file in sorted(Path(CONF).rglob("*.yaml")):
        group = str(file.parent.relative_to(CONF)).removeprefix(f"{RUNTIME}/")
        if group not in (".", "hydra/help") and not group.startswith("reporting"):
            comments = re.findall("^# (?!@)(.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            line = f"    {file.stem:18} {comments[0] if comments else ''}".rstrip()
            lines.setdefault(group, [f"  {group}"]).append(line)
    order = sorted(lines, key=lambda group: (group.startswith("hydra"), group))
    text = "\n".join(line for group in order for line in lines[group])
    return text.replace("$", "$$")  # because Hydra substitutes $NAME in the text


def short_key(key: str) -> str:
    """Return a dotted key as it is typed, without `runtime.`."""
    return key.removeprefix(f"{RUNTIME}.")


def full_keys(config: str, overrides: Sequence[str]) -> list[str]:
    """Put `runtime.` before the keys that may be typed without it: `devices=2`, `~callbacks.figures`, `logger=csv`.

    A key gets the prefix if more of its parts exist below the `runtime` node of `conf/CONFIG.yaml` than at the top.
    Words that are not overrides are returned unchanged, except that `--devices=2` is refused.
    """
    top, groups = _keys(config)
    below = top.get(RUNTIME, {})
    found = []
    for override in overrides:
        if (flag := re.match(r"--([\w.@/]+)(?:=(.*)|$)", override)) and _depth(top, flag[1]) + _depth(below, flag[1]):
            typed = f"{flag[1]}={flag[2] or 'VALUE'}"
            raise ConfigError(f"{override} must have no hyphens: type {typed}, and ${{args_no_hyphens}} in a W&B sweep")
        parts = re.fullmatch(r"([+~]*)([\w.]+)(=.*)?", override, flags=re.DOTALL)
        if parts and (override.startswith("~") or parts[3]) and _depth(below, parts[2]) > _depth(top, parts[2]):
            override = f"{parts[1]}{RUNTIME}{'/' if parts[2] in groups else '.'}{parts[2]}{parts[3] or ''}"
        found.append(override)
    return found


@cache
def _keys(config: str) -> tuple[dict[str, Any], set[str]]:
    """Return the top level of a configuration, its groups included, and the groups below `runtime`."""
    top = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(Path(CONF, f"{config}.yaml"))))
    groups = {group for entry in top.pop("defaults") if isinstance(entry, dict) for group in entry}
    below = {group.removeprefix(f"{RUNTIME}/") for group in groups if group.startswith(f"{RUNTIME}/")}
    if below:
        top[RUNTIME] |= {group: {} for group in below if group not in top[RUNTIME]}
    return {group: {} for group in groups} | top, below


def _depth(node: Any, key: str) -> int:
    """Return how many parts of a dotted key, from the first on, lead down into the node."""
    first, _, rest = key.partition(".")
    return 1 + _depth(node[first], rest) if isinstance(node, Mapping) and first in node else 0
