"""Refuse keys that nothing reads, and texts where a number belongs; say which key was probably meant."""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, cast

from hydra._internal.utils import _locate
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.configuration import CONF, short_key, usual_choices
from vaelab.runs.folder.identity import Flat, flatten

TRAINER = "pytorch_lightning.Trainer"  # takes what the node `trainer` holds
ABOUT_MAKING = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")  # no arguments of the class
Unread = Iterator[tuple[str, Iterable[str]]]


def check_keys(config: str, cfg: DictConfig, found: dict[str, Any]) -> None:
    """Refuse a key that nothing reads, and a text where `conf/` has a number.

    `found` is what `cfg` resolves to, which `conf/CONFIG.yaml` and the command line compose.

    An argument that is not in `conf/` must be one of its class, which is imported to see; `**kwargs` takes any. A key
    of the user's own may stand at the top if `${...}` refers to it.

    Raises:
        ConfigError: the message names the key, and the one that was probably meant.
    """
    flatten(found)  # refuses a key that is no text
    known = Known.of(config, HydraConfig.get().runtime.choices)
    for key, others in known.unread(found):
        if not re.search(rf"\$\{{[^}}]*\b{re.escape(key)}\b", str(OmegaConf.to_container(cfg))):
            raise ConfigError(f"{short_key(key)} is unknown: {_meant(key, others)}")


@dataclass
class Known:
    """What `conf/` has for a command line.

    Attributes:
        values: the values of the chosen files by their dotted keys.
        groups: the groups of choices, with what is chosen of each.
    """

    values: Flat
    groups: Mapping[str, str | None]

    @classmethod
    def of(cls, config: str, choices: Mapping[Any, Any]) -> "Known":
        """Read the files of `conf/` that are chosen."""
        values, groups = dict(of_file(Path(CONF, f"{config}.yaml"))), {}
        for chosen, choice in choices.items():
            group, _, package = str(chosen).partition("@")
            file = Path(CONF, group, f"{choice}.yaml")
            node = package or group.replace("/", ".")
            groups[node] = choice
            if file.exists() and not is_global(file):
                values |= {f"{node}.{key}": value for key, value in of_file(file).items()}
        return cls(values, groups)

    def below(self, prefix: str) -> set[str]:
        """Return the names right below a prefix, which is empty or ends in a dot."""
        keys = [*self.values, *self.groups]
        return {key.removeprefix(prefix).partition(".")[0] for key in keys if key.startswith(prefix)}

    def unread(self, node: Mapping[str, Any], prefix: str = "") -> Unread:
        """Yield each key below a node without a class that nothing reads, and the names that are read there."""
        names = self.below(prefix)
        parts = {name for name in names if f"{prefix}{name}._target_" in self.values}
        of_parts = prefix and names == parts  # the user may add others, such as callbacks
        of_own_file = prefix and not names  # a choice that is not in `conf/`
        for name, value in node.items():
            key = f"{prefix}{name}"
            not_chosen = key in self.groups and self.groups[key] is None
            if isinstance(value, Mapping) and "_target_" in value and (name in names or of_parts):
                yield from self.wrong_below(value, f"{key}.")
            elif of_own_file:
                continue
            elif isinstance(value, Mapping) and value and (of_parts or not_chosen):
                there = ", ".join(sorted(file.stem for file in Path(CONF, key.replace(".", "/")).glob("*.yaml")))
                needed = f"a class: also type +{key}._target_=" if of_parts else f"a choice: also type {key}= ({there})"
                raise ConfigError(f"{short_key(key)}.{next(iter(value))} needs {needed}")
            elif name not in names and not (of_parts and value is None):
                yield key, names
            elif key == "trainer" and isinstance(value, Mapping):
                yield from wrong_arguments(TRAINER, value, f"{key}.", self.below(f"{key}."))
            elif isinstance(value, Mapping) and key not in self.values:
                yield from self.unread(value, f"{key}.")

    def wrong_below(self, node: Mapping[str, Any], prefix: str) -> Unread:
        """Yield each argument that the class of a node does not take, here and in all nodes below.

        Raises:
            ConfigError: an override of `_target_` left arguments of the former class behind.
        """
        target = node["_target_"]
        if target == self.values.get(f"{prefix}_target_"):
            for name, value in node.items():
                check_kind_of_value(prefix + name, value, self.values.get(prefix + name))
            yield from wrong_arguments(target, node, prefix, self.below(prefix))
        elif unknown := dict(wrong_arguments(target, node, prefix)):
            names, taken = [short_key(key) for key in unknown], ", ".join(next(iter(unknown.values())))
            raise ConfigError(
                f"{target} has no argument for {', '.join(names)}: leave out what you typed of these, or remove what a "
                f"former class had by {' '.join(f'~{name}' for name in names)} (it takes {taken})"
            )
        for name, value in node.items():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, Mapping) and "_target_" in inner:
                    yield from self.wrong_below(inner, f"{prefix}{name}.")


def wrong_arguments(target: Any, node: Mapping[str, Any], prefix: str, known: Collection[str] = ()) -> Unread:
    """Yield each argument in a node that its class, the target, does not take, with those that it takes.

    The class is imported only if there are arguments other than the `known` ones, which `conf/` has.
    """
    left = node.keys() - {*ABOUT_MAKING, *known}
    taken = arguments_of(target) if left else None
    if taken is not None:
        yield from ((prefix + name, taken) for name in sorted(left.difference(taken)))


def check_kind_of_value(key: str, value: Any, shipped: Any) -> None:
    """Refuse a text where `conf/` has a number or a truth value."""
    if isinstance(value, str) and isinstance(shipped, int | float):
        expected, name = "true or false" if isinstance(shipped, bool) else "a number", short_key(key)
        raise ConfigError(f"{name} must be {expected}, found {value!r}: type {name}={str(shipped).lower()}")


def arguments_of(target: Any) -> list[str] | None:
    """Return the names that a class or a function takes; None if it takes any, or making it will say what is wrong."""
    try:
        found = inspect.signature(_locate(target)).parameters
    except Exception:
        return None
    return None if any(one.kind is one.VAR_KEYWORD for one in found.values()) else list(found)


def _meant(key: str, others: Iterable[str]) -> str:
    prefix, dot, name = key.rpartition(".")
    if near := get_close_matches(name, others, 1):
        return f"did you mean {short_key(prefix + dot + near[0])}?"
    return f"{short_key(prefix)} takes {', '.join(sorted(others))}" if prefix else "--help lists the keys"


def reworded(config: str, error: Exception) -> Exception:
    """Return one of Hydra's errors about a key or a choice as a line that names what was probably meant."""
    text = str(error)
    if not isinstance(error, HydraException):
        return error
    if found := re.search(r"Could not override '([^'@]+)'\.", text):
        return ConfigError(_of_all(config, short_key(found[1])))
    if found := re.search(r"Could not find '(.+)/([^/']+)'\s+Available options in '\S+':\n((?:\t.*\n?)+)", text):
        group, choices = found[1].removeprefix("runtime/"), found[3].split()
        near = get_close_matches(found[2], choices, 1)
        meant = f"did you mean {near[0]} of" if near else "choose one of"
        return ConfigError(f"{group}={found[2]} is unknown: {meant} {', '.join(choices)}" + "?" * bool(near))
    if found := re.search(r"override '(.+)'\s+missing EQUAL", text):
        return ConfigError(f"expected key=value, found {found[1]}: type {found[1].partition(' ')[0]}=VALUE")
    return error


def _of_all(config: str, typed: str) -> str:
    """Say which of all keys in `conf/`, whatever the choices, was probably meant by a key that is not there."""
    names = _all_names(config)
    if typed in names:
        return f"{typed} is not in the files that are chosen: type +{typed}= if the class takes it"
    there, *rest = "", *typed.split(".")
    while rest[0] in (
        beside := {name.removeprefix(there).partition(".")[0] for name in names if name.startswith(there)}
    ):
        there += f"{rest.pop(0)}."
    last = {name.rpartition(".")[2]: name for name in sorted(names, reverse=True)}
    near = [there + one for one in get_close_matches(rest[0], beside, 1)]
    if not there:
        near += [last[one] for one in get_close_matches(typed, last, 1, 0.8)]
        near += [name for name in sorted(names, key=len) if typed in name.rpartition(".")[2]]
    meant = f"did you mean {near[0]}?" if near else "--help lists the keys"
    return f"{typed} is unknown: {meant}" + (f" (or +{typed}= for a further argument of a class)" if there else "")


def _all_names(config: str) -> set[str]:
    """Return the groups of a configuration and the keys that any choice has, as they are typed."""
    names = {short_key(name) for name in of_file(Path(CONF, f"{config}.yaml"))}
    for group in filter(lambda group: "@" not in group, usual_choices(config)):
        typed = short_key(group.replace("/", "."))
        files = [file for file in Path(CONF, group).glob("*.yaml") if not is_global(file)]
        names |= {typed} | {f"{typed}.{name}" for file in files for name in of_file(file)}
    return names


def is_global(file: Path) -> bool:
    """Return whether the values of a group's file stand at the top."""
    return "@package _global_" in file.read_text(encoding="utf-8")


@cache
def of_file(file: Path) -> Flat:
    """Return the values in a file of `conf/` by their dotted keys, with those of the files in its defaults list."""
    node, flat = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(file))), Flat()
    for entry in node.pop("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":
            name, _, package = entry.partition("@")
            inherited = of_file(file.with_name(f"{name}.yaml"))
            flat |= {f"{package}.{key}".lstrip("."): value for key, value in inherited.items()}
    return flat | flatten(node)
