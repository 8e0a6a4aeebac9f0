"""The configuration: where Hydra finds it, which keys and choices it has, and its content as plain data."""

import re
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from vaelab.security.redaction import at_home, redacted

_BESIDE_PACKAGE = Path(__file__).parents[1] / "conf"  # in a wheel
_IN_CHECKOUT = Path(__file__).parents[3] / "conf"
CONF = str(_BESIDE_PACKAGE if _BESIDE_PACKAGE.exists() else _IN_CHECKOUT)
RUNTIME = "runtime"  # the node of everything that cannot change the result of a run


def _let_ours_replace_hydras() -> None:
    """Unregister Hydra's schemas for launchers and sweepers with the names of ours, because ours do not fit them."""
    Plugins.instance()  # registers Hydra's schemas
    for group in ("launcher", "sweeper"):
        for file in Path(CONF, "hydra", group).iterdir():
            ConfigStore.instance().repo["hydra"][group].pop(file.name, None)


_let_ours_replace_hydras()  # without this, no configuration in `CONF` composes


def contents(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved configuration as plain data, without Hydra's own node, and with `~/` as the home folder."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return cast(dict[str, Any], at_home(OmegaConf.to_container(own, resolve=True)))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return the contents in the form that is stored and hashed: redacted, and without `data_dir`."""
    found = contents(cfg)
    found.get(RUNTIME, {}).pop("data_dir", None)
    return cast(dict[str, Any], redacted(found))


OTHERS = (".", "hydra/help", "reproduction")  # folders of `conf/` without choices of `vaelab.train`


def choices(only: str = "") -> str:
    """Return each group's choices, each with the first comment of its file, for `--help`.

    Args:
        only: the group to show; by default all that `vaelab.train` has.
    """
    lines: dict[str, list[str]] = {}
    for file in sorted(Path(CONF).rglob("*.yaml")):
        group = str(file.parent.relative_to(CONF)).removeprefix(f"{RUNTIME}/")
        if group == only or not (only or group in OTHERS or group.startswith("reporting")):
            comments = re.findall("^# (?!@)(.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            line = f"    {file.stem:18} {comments[0] if comments else ''}".rstrip()
            lines.setdefault(group, [f"  {group}"]).append(line)
    order = sorted(lines, key=lambda group: (group.startswith("hydra"), group))
    text = "\n".join(line for group in order for line in lines[group])
    return text.replace("$", "$$")  # because Hydra substitutes $NAME in the text


@cache
def usual_choices(config: str) -> dict[str, str | None]:
    """Return the choice of each group in the defaults list of `conf/CONFIG.yaml`, such as `network@encoder.network`."""
    entries = OmegaConf.to_container(OmegaConf.load(Path(CONF, f"{config}.yaml")).defaults)
    found = {
        group: choice
        for entry in cast(list[Any], entries)
        if isinstance(entry, dict)
        for group, choice in entry.items()
    }
    return {group: choice for group, choice in found.items() if not group.startswith("override ")}


def chosen() -> DictConfig:
    """Return the name of the YAML that was chosen for each part of the model and of its training."""
    made = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    found = {str(group): choice for group, choice in made.items() if choice and not re.search("[/@]", str(group))}
    return OmegaConf.create(found)  # not plain data, on which `--resolve` would fail


def num_levels(_root_: DictConfig) -> int:
    """Return how many values a pixel of the data can have: `data.num_levels`, or what the data's class declares."""
    given = _root_.data.get("num_levels")
    return get_class(_root_.data._target_).num_levels if given is None else given  # type: ignore[attr-defined]


def short_key(key: str) -> str:
    """Return a dotted key as it is typed, without `runtime.`."""
    return key.removeprefix(f"{RUNTIME}.")
