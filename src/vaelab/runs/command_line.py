"""What a user types, put as Hydra reads it."""

import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.configuration import CONF, RUNTIME
from vaelab.runs.folder.identity import Flat, flatten
from vaelab.runs.keys import of_file
from vaelab.security.redaction import at_home, redact

COMMAND = "VAELAB_COMMAND"  # the environment variable with the command line, for the processes that do its work
LOGGER = f"{RUNTIME}/logger"
SHOWN = ("vaelab", "torch", "pytorch-lightning", "hydra-core")  # packages that `--version` names


def command_line(argv: Sequence[str]) -> str:
    """Return `sys.argv` as it was typed, redacted."""
    program = Path(argv[0])
    typed = ["python", "-m", f"vaelab.{program.stem}"] if program.suffix == ".py" else [program.name]
    return redact(shlex.join([*typed, *argv[1:]]))


def hydra_words(config: str, words: Sequence[str]) -> list[str]:
    """Return the words of a command line as Hydra reads them: first the overrides, then the flags.

    Raises:
        ConfigError: a flag is unknown, lacks its value, or is not for this command.
    """
    top, _ = _keys(config)
    words = [_switched_on(top, word) for word in words]
    for word in words:
        flag = re.match(r"--([\w.@/]+)(?:=(.*)|$)", word)
        if flag and (_depth(top, flag[1]) or _depth(top.get(RUNTIME, {}), flag[1])):
            typed = f"{flag[1]}={flag[2] or 'VALUE'}"
            raise ConfigError(f"{word} must have no hyphens: type {typed}, and ${{args_no_hyphens}} in a W&B sweep")
    if "--version" in words:
        print(", ".join(f"{name} {version(name)}" for name in SHOWN), f"python {platform.python_version()}", sep=", ")
        sys.exit(0)
    parser = get_args_parser()
    parser.error = _refuse  # pyright: ignore[reportAttributeAccessIssue] # instead of printing the usage of all flags
    typed = parser.parse_intermixed_args(list(words))
    multirun = typed.multirun or "hydra.mode=MULTIRUN" in typed.overrides
    if multirun and config != "train":
        raise ConfigError("-m works only with vaelab.train: leave out -m, and type the command once for each folder")
    if typed.cfg == "hydra" and typed.resolve and config == "train":  # which names folders after the other settings
        package = typed.package or "hydra"
        raise ConfigError(f"--resolve needs the whole configuration: type --cfg all --package {package} --resolve")
    flags = [word for word in words if word not in typed.overrides]
    flags = [name + equals + at_home(value) for name, equals, value in (flag.rpartition("=") for flag in flags)]
    return [*hydra_overrides(config, typed.overrides), *flags]


def as_typed(value: Any) -> str:
    """Return a value as it is typed in an override."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_typed, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def quoted(value: Any) -> str:
    """Return a value as it is typed in an override, and a text in quotes, so that Hydra reads it as it is."""
    return QuotedString(str(value), Quote.single).with_quotes() if isinstance(value, str | Path) else as_typed(value)


def _switched_on(top: Flat, word: str) -> str:
    """Return `--json` as `json=true`, and the same for every setting that is false."""
    key = word.removeprefix("--")
    off = top.get(key, top.get(RUNTIME, {}).get(key)) is False
    return f"{key}=true" if off and word != key else word


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --hydra-help lists the flags")


def hydra_overrides(config: str, overrides: Sequence[str]) -> list[str]:
    """Return overrides as Hydra reads them.

    - `devices=2`, `~callbacks.figures`, `logger=none` get the prefix `runtime.`: a key may be typed without it if more
      of its parts exist below the `runtime` node of `conf/CONFIG.yaml` than at the top.
    - `trainer.detect_anomaly=true` adds an argument of Lightning's Trainer, whose constructor refuses unknown ones.
    - `data_dir=~/data` names the home folder.
    - `logger=[wandb,tensorboard]` adds a node for each logger after the first; W&B is always the first.
    - `name=1e5` stays a text, because the value of `name` in `conf/` is a text.
    - `data.file=/home/me/cats` becomes `data_dir=/home/me data.file=cats`, unless `data_dir` is typed too, or the file
      lies in the folder that is `data_dir` anyway.
    """
    overrides = _below_data_dir(overrides)
    top, groups = _keys(config)
    below = top.get(RUNTIME, {})
    found = []
    for override in overrides:
        typed, equals, value = override.partition("=")
        sign, key = re.fullmatch("([+~]*)(.*)", typed, flags=re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
        if ("~" in sign or equals) and re.fullmatch(r"[\w.]+", key) and _depth(below, key) > _depth(top, key):
            key = f"{RUNTIME}{'/' if f'{RUNTIME}/{key}' in groups else '.'}{key}"
        elif not sign and key.startswith("trainer.") and _depth(top, key) == 1:
            sign = "++"
        several = re.fullmatch(r"\[(.*)\]", value) if key == LOGGER else None
        first, *others = _each(several[1]) if several else [value]
        found.append(sign + key + equals + _literal(config, key, first))
        found += [f"+{LOGGER}@{RUNTIME}.loggers.{other}={other}" for other in others]
    return found


def _below_data_dir(overrides: Sequence[str]) -> list[str]:
    """Type absolute paths of a user's data as their folder and the paths below it, because only the latter are stored.

    Raises:
        ConfigError: a path is relative, and others do not lie in the folder where it starts.
    """
    typed = {key: value for key, _, value in (override.partition("=") for override in overrides)}
    named: dict[str, list[str]] = {
        key: at_home(typed[key].split(",")) for key in ("data.file", "data.labels") if key in typed
    }
    paths = [path for several in named.values() for path in several if path not in ("", "null", "none")]
    absolute = {path: os.path.normpath(path) for path in paths if os.path.isabs(path)}
    if not absolute or {"data_dir", f"{RUNTIME}.data_dir"} & typed.keys():
        return list(overrides)
    usual = os.path.abspath(at_home(os.environ.get("VAELAB_DATA_DIR", "data")))
    inside = all(Path(usual) in Path(path).parents for path in absolute.values())
    folder = usual if inside else os.path.commonpath(map(os.path.dirname, absolute.values()))
    if relative := [path for path in paths if path not in absolute and not inside]:
        given = f"{next(iter(absolute))} is an absolute path, and {relative[0]} a relative one"
        raise ConfigError(f"{given}: type both as absolute paths, or data_dir={folder} and both below it")
    below = {path: os.path.relpath(absolute[path], folder) for path in absolute}
    names = {key: ",".join(below.get(path, path) for path in several) for key, several in named.items()}
    here = {f"{key}={typed[key]}": f"{key}={value}" for key, value in names.items()}
    return [*([] if inside else [f"data_dir={folder}"]), *(here.get(override, override) for override in overrides)]


def _each(names: str) -> list[str]:
    """Return the loggers in a list, each once, and W&B first."""
    typed = [name.strip() for name in names.split(",") if name.strip()] or ["none"]
    return sorted(dict.fromkeys(typed), key=lambda name: name != "wandb")


def _literal(config: str, key: str, value: str) -> str:
    """Return a value, or each of several, in quotes where Hydra would not read it as the text that it is."""

    def literal(element: re.Match[str]) -> str:
        text = at_home(element[0])
        if text == element[0] and not _needs_quotes(config, key, text):
            return text
        return QuotedString(text, Quote.single).with_quotes()

    quoted = re.search(r"['\"]|\$\{", value)
    return value if quoted else re.sub(r"[^\s,\[\](){}][^,\[\](){}]*", literal, value)


def _needs_quotes(config: str, key: str, text: str) -> bool:
    """Return whether Hydra cannot read this at all, or reads it as a number or the like where a text belongs."""
    try:
        value = OverridesParser.create().parse_override(f"key={text}").value()
    except HydraException:
        return True
    return not isinstance(value, str | None) and _is_text(config, key)


def _is_text(config: str, key: str) -> bool:
    """Return whether `conf/` has a text at the key, or an empty list, whose items are then texts."""
    values, parts = [flatten(_keys(config)[0]).get(key)], key.split(".")
    for i in range(1, len(parts)):  # files of a group
        for file in sorted(Path(CONF, *parts[:i]).glob("*.yaml")):
            values.append(of_file(file).get(".".join(parts[i:])))
    number = r"\$\{([\w.]+|num_levels:)\}"  # a reference to another key may be a number
    return any(value == [] or (isinstance(value, str) and not re.fullmatch(number, value)) for value in values)


@cache
def _keys(config: str) -> tuple[dict[str, Any], set[str]]:
    """Return a configuration as nested dicts, with its groups as empty dicts, and the groups."""
    top = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(Path(CONF, f"{config}.yaml"))))
    groups = {group for entry in top.pop("defaults") if isinstance(entry, dict) for group in entry}
    below = {group.removeprefix(f"{RUNTIME}/") for group in groups if group.startswith(f"{RUNTIME}/")}
    if below:
        top[RUNTIME] |= {group: {} for group in below if group not in top[RUNTIME]}
    return {group: {} for group in groups} | top, groups


def _depth(node: Any, key: str) -> int:
    """Return how many parts at the beginning of a dotted key exist in the node."""
    first, _, rest = key.partition(".")
    return 1 + _depth(node[first], rest) if isinstance(node, Mapping) and first in node else 0
