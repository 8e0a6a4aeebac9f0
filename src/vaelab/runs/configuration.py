"""The configuration: where Hydra finds it, and as plain data."""

from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from vaelab.runs.plugins import register_plugins
from vaelab.security.redaction import redacted

_BESIDE_PACKAGE = Path(__file__).parents[1] / "conf"  # in a wheel
_IN_CHECKOUT = Path(__file__).parents[3] / "conf"
CONF = str(_BESIDE_PACKAGE if _BESIDE_PACKAGE.exists() else _IN_CHECKOUT)
REPORTING_CONF = str(Path(CONF) / "reporting")  # here `sweep=` names a folder; in `CONF` it names a group of choices


register_plugins()  # or no configuration of `CONF` composes


def contents(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain data, without Hydra's own node."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    return cast(dict[str, Any], OmegaConf.to_container(own, resolve=True))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Its contents, redacted: to write down, not to build from."""
    return cast(dict[str, Any], redacted(contents(cfg)))
