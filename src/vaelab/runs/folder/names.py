"""Name folders: a readable part, then a hash. No name contains `/`, `=` or `,`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.configuration import choices, plain
from vaelab.runs.folder.identity import BUDGET, identity, is_control
from vaelab.security.redaction import redact


def run_name(_root_: DictConfig) -> str:
    """Return the folder of a single run: `data-decoder-zLATENT-sSEED-HASH`, or `name-HASH`."""
    cfg, choices = _root_, _root_.hydra.runtime.choices
    prefix = cfg.runtime.name or f"{choices.data}-{choices.decoder}-z{cfg.latent_dim}-s{cfg.seed}"
    return f"{_safe(prefix)}-{identity(plain(cfg))}"


def job_name(_root_: DictConfig) -> str:
    """Return the folder of a job in a sweep: its overrides in readable form, and the hash."""
    overrides = _scientific(_root_.hydra.overrides.task)
    prefix = _root_.runtime.name or "-".join(_safe(o.lstrip("+~")) for o in overrides) or "default"
    return f"{_safe(prefix)[:160]}-{identity(plain(_root_))}"


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
    return path.with_name(f"{prefix}-{identity(plain(own))}")


def sweep_name(name: str | None, overrides: Sequence[str], params: Mapping[str, str] | None = None) -> str:
    """Return the folder of a sweep: `sweep.name`, or a name made from the overrides and the sweeper's `params`.

    The same command line gives the same name, and so finds the sweep again.
    """
    typed = {_key(override) for override in overrides}
    overrides = [*overrides, *(f"{key}={value}" for key, value in (params or {}).items() if key not in typed)]
    swept = sorted(swept_keys(overrides))
    if set(swept) & set(BUDGET):
        raise ConfigError(
            f"a sweep cannot vary {' or '.join(BUDGET)}, which only extend a run: type one value for all jobs"
        )
    if name:
        return _safe(name)
    readable = "-".join(key.split("/")[-1].split(".")[-1] for key in swept)
    return "-".join([_safe(readable)[:160], identity({"overrides": _scientific(overrides)})])


def swept_keys(overrides: Sequence[str]) -> set[str]:
    """Return the keys to which the overrides give several values."""
    return {_key(override) for override in overrides if "," in override or "(" in override}


def register_resolvers() -> None:
    """Register the functions that `conf/` calls: `choices` and the names of folders."""
    for resolver in (choices, run_name, job_name):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    # cached, because a job sees only its own overrides and would compute another name
    OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", redact(str(text))).strip("._-") or "run"


def _scientific(overrides: Sequence[str]) -> list[str]:
    # sorted, so that names do not depend on the order of typing
    return sorted(redact(override) for override in overrides if not is_control(_key(override)))


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0]
