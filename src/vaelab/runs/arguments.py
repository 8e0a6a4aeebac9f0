"""Refuse a class that cannot be imported or lacks arguments, before any class is called."""

import inspect
import re
from typing import Any

from hydra._internal.utils import _locate
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.configuration import short_key
from vaelab.security.allow_list import entries
from vaelab.security.untrusted import reason_of

# how many arguments vaelab adds to those of a node, by the last part of its key
ADDED = {"encoder": 3, "decoder": 3, "network": 2, "prior": 2, "head": 1, "scale": 1, "optimizer": 1, "scheduler": 1}


def check_arguments(cfg: DictConfig, *parts: str) -> None:
    """Refuse a class that cannot be imported, or that lacks arguments which it needs.

    Arguments that a class does not take are refused by `vaelab.runs.keys`.

    Args:
        cfg: the configuration.
        parts: the nodes to look at; all if there is none.

    Raises:
        ConfigError: the message names the key and the class, and says what to type.
    """
    nodes = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(parts)) if parts else cfg, resolve=True)
    for key, _, node in entries(nodes):
        if isinstance(node, dict) and isinstance(node.get("_target_"), str) and "_args_" not in node:
            _check_node(short_key(key), node)


def _check_node(key: str, node: dict[str, Any]) -> None:
    target, given = node["_target_"], [str(name) for name in node if not re.fullmatch("_.*_", str(name))]
    found = _located(key, target)
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # what is no callable; and some of those in C, which do not say what they take
        return
    needed = [p.name for p in parameters if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD]
    lacking, added = [name for name in needed if name not in given], ADDED.get(key.rpartition(".")[2])
    if node.get("_partial_"):
        lacking = lacking[added:] if added is not None else []
    elif lacking and added is not None:
        raise ConfigError(f"{target} gets {', '.join(lacking)} from vaelab later: type +{key}._partial_=true")
    if lacking:
        typed = " ".join(f"+{key}.{name}=VALUE" for name in lacking)
        raise ConfigError(f"{target} needs {', '.join(lacking)}: type {typed}")


def _located(key: str, target: str) -> Any:
    try:
        return _locate(target)
    except ImportError as error:
        cause = error.__cause__ or error
        raise ConfigError(
            f"{key}._target_={target} cannot be imported ({type(cause).__name__}: {reason_of(cause)}): correct the "
            f"path, or type the command in the folder that holds {target.split('.')[0]}"
        ) from error
