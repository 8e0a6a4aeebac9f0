"""Name folders: a readable part, then a hash. A name has no `/`, `=` or `,`, and fits on every file system.

Also find the file of a run's weights.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vaelab.errors import ConfigError
from vaelab.runs.configuration import plain, usual_choices
from vaelab.runs.folder.identity import BUDGET, digest, identity, is_control
from vaelab.security.redaction import redact, redacted

TOLD = ("model", "network", "encoder", "prior", "objective")  # groups whose choice a run's name tells if it is unusual
log = logging.getLogger(__name__)
LONGEST = 169  # characters of a folder's name, all ASCII; file systems take 255 bytes, and `.old1` may follow


def weights_file(folder: Path, name: str) -> Path:
    """Return the file of the weights `last` or `best` of a run: `NAME.ckpt`, or if that is gone `NAME.safetensors`.

    If neither is there, return the path of `NAME.ckpt`.
    """
    path = folder / "checkpoints" / f"{name}.ckpt"
    exported = path.with_suffix(".safetensors")
    return exported if os.path.lexists(exported) and not os.path.lexists(path) else path


def shortened(text: str, most: int = LONGEST) -> str:
    """Return a text of at most `most` characters. A longer one is cut, but keeps its hash, or gets one of the whole."""
    if len(text) <= most:
        return text
    own = re.search("-[0-9a-f]{8}$", text)
    end = own[0] if own else f"-{digest(text)}"
    return text.removesuffix(end)[: most - len(end)] + end


def run_dir(parent: str, _root_: DictConfig) -> str:
    """Return the folder of a single run: one below `parent` that holds this run already, or `run_name`."""
    path = Path(parent, run_name(_root_))
    found = path if _root_.runtime.name else known_by_hash(path, plain(_root_))
    if found != path:
        log.warning("%s holds this run already: name=NAME makes a folder of its own", found)
    return str(found)


def known_by_hash(path: Path, config: dict[str, Any]) -> Path:
    """Return the folder beside `path` that holds the same run under another prefix; `path` if it exists, or none does.

    A folder's identity is its hash. Its prefix may be a name that was typed, or that of an earlier version.
    """
    others = sorted(path.parent.glob(f"*-{identity(config)}/config.yaml"))
    return path if path.exists() or not others else others[0].parent


def run_name(_root_: DictConfig) -> str:
    """Return the name of a single run's folder: `name-HASH`, or what `_usual_prefix` says and the hash."""
    return shortened(f"{_safe(_root_.runtime.name or _usual_prefix(_root_))}-{identity(plain(_root_))}")


def _usual_prefix(cfg: DictConfig) -> str:
    """Return `data-decoder-zLATENT-sSEED`; before the latent size stand the choices of `TOLD` that are not the default.

    The name of an array's file follows the data.
    """
    choices, usual, file = cfg.hydra.runtime.choices, usual_choices("train"), OmegaConf.select(cfg, "data.file")
    told = [group for group in usual if group.split("@")[0] in TOLD and choices.get(group) not in (None, usual[group])]
    unusual = [f"{group.rpartition('@')[2]}_{choices[group]}" for group in told]
    data = [choices.get("data"), *([Path(str(file)).stem] if file else [])]
    return "-".join(map(str, [*data, choices.get("decoder"), *unusual, f"z{cfg.latent_dim}", f"s{cfg.seed}"]))


def job_name(_root_: DictConfig) -> str:
    """Return the folder of a job in a sweep: its overrides in readable form, and the hash."""
    overrides = _scientific(_root_.hydra.overrides.task)
    prefix = _root_.runtime.name or "-".join(_safe(o.lstrip("+~")) for o in overrides) or "default"
    return shortened(f"{_safe(prefix)}-{identity(plain(_root_))}")


def folder_of_seed(path: Path, cfg: DictConfig, own: DictConfig) -> Path:
    """Return the folder of run `own`, given the folder `path` of run `cfg`, which differs only in its seed."""
    prefix = path.name.removesuffix(f"-{identity(plain(cfg))}")
    if prefix == path.name:
        raise ConfigError(
            f"seeds={cfg.runtime.seeds} needs a folder for each seed, and hydra.run.dir={path.name} names only one: "
            "type name= instead"
        )
    if not cfg.runtime.name:
        prefix, told = re.subn(rf"((?:^|-)seed_|-s){cfg.seed}(?=-|$)", rf"\g<1>{own.seed}", prefix)
        prefix += "" if told else f"-seed_{own.seed}"
    found = path.with_name(shortened(f"{prefix}-{identity(plain(own))}"))
    return found if cfg.runtime.name else known_by_hash(found, plain(own))


def sweep_dir(
    parent: str, name: str, overrides: Sequence[str], params: Mapping[str, str] | None, fixed: str | None
) -> str:
    """Return the folder of a sweep below `parent`: `sweep.name`, or a name made from what is swept and what is not.

    The same sweep gets the same name, however it is typed: `seed=1,2` is `seed=choice(2, 1)`. `params` are the values
    of the sweeper itself, and `fixed` comes from `fixed_settings`.
    """
    overrides = [*overrides, *_added(params, overrides)]
    swept = swept_values(overrides)
    if swept.keys() & set(BUDGET):
        raise ConfigError(
            f"a sweep cannot vary {' or '.join(BUDGET)}, which only extend a run: type one value for all jobs"
        )
    if name:
        return f"{parent}/{shortened(_safe(name))}"
    others = _scientific([override for override in overrides if key_of(override) not in swept])
    varied = {key: values for key, values in swept.items() if not is_control(key)}
    readable = _safe("-".join(key.split("/")[-1].split(".")[-1] for key in sorted(varied)))
    digits = identity({"fixed": others if fixed is None else fixed, "varied": varied})
    return f"{parent}/{shortened(f'{readable}-{digits}')}"


def fixed_settings(_root_: DictConfig) -> str | None:
    """Return the identity of a sweep's configuration without what is swept.

    Return None if that cannot be resolved, or if the sweeper's own values choose from a group.
    """
    cfg, hydra = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"]), _root_.hydra
    added = _added(hydra.sweeper.get("params"), hydra.overrides.task)
    try:
        for override in OverridesParser.create().parse_overrides(added):
            if override.key_or_group in hydra.runtime.choices and not override.is_sweep_override():
                return None
            if not override.is_sweep_override():
                OmegaConf.update(cfg, override.key_or_group, override.value(), force_add=True)
        return identity(plain(cfg))
    except OmegaConfBaseException:
        return None


def _added(params: Mapping[str, str] | None, overrides: Sequence[str]) -> list[str]:
    typed = {key_of(override) for override in overrides}
    return [f"{key}={value}" for key, value in (params or {}).items() if key not in typed]


def swept_values(overrides: Sequence[str]) -> dict[str, list[str]]:
    """Return the keys to which the overrides give several values: key → an identity of each value, sorted."""
    values = {key_of(override): _values(override) for override in overrides}  # the last override of a key counts
    return {key: found for key, found in values.items() if found is not None}


def key_of(override: str) -> str:
    """Return the key of an override, such as `objective.beta` of `++objective.beta=2`."""
    return override.lstrip("+~").split("=")[0]


def _values(override: str) -> list[str] | None:
    """Return an identity of each value of a sweep, sorted; None for an override that gives one value."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:  # Hydra refuses the override later
        return [redact(override)] if "," in override else None
    if not parsed.is_sweep_override():
        return None
    sweep: Any = parsed.value()
    if isinstance(sweep, ChoiceSweep | RangeSweep):
        values = list(parsed.sweep_iterator(Override._convert_value))  # pyright: ignore[reportArgumentType]
    else:  # an interval, or a pattern of names in a group
        values = [{name: value for name, value in vars(sweep).items() if name != "tags"}]
    tags = [f"tag {tag}" for tag in getattr(sweep, "tags", ())]
    return sorted({*tags, *(identity({"value": redacted(value)}) for value in values)})


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", redact(str(text))).strip("._-") or "run"


def _scientific(overrides: Sequence[str]) -> list[str]:
    # sorted, so that names do not depend on the order of typing
    return sorted(redact(override) for override in overrides if not is_control(key_of(override)))
