"""The options of the W&B logger: what its environment says, and W&B's own rules, applied before anything is written."""

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.folder.identity import is_run_id
from vaelab.runs.folder.names import shortened
from vaelab.runs.validate import EVALUATION, check_choice
from vaelab.security.redaction import redacted

MODES = EVALUATION["wandb_mode"]
TEXTS = ("project", "entity", "name", "group", "job_type", "notes", "id", "dir")
OURS = ("config", "settings", "reinit", "save_dir", "version", "experiment", "prefix")  # chosen by the run itself
OF_SWEEP = {"project": "WANDB_PROJECT", "entity": "WANDB_ENTITY", "id": "WANDB_RUN_ID"}  # set by `wandb agent`
LONGEST_NAME, LONGEST_TAG = 128, 64  # characters; W&B refuses more
FORBIDDEN = r"[/\\#?%:]"  # in the name of a project


def wandb_mode() -> str:
    """Return W&B's mode: `WANDB_MODE`, or online for a trial of `wandb agent`, or offline."""
    return os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_SWEEP_ID") else "offline")


def wandb_tags() -> ListConfig:
    """Return the tags in `WANDB_TAGS`, which separates them by commas."""
    return OmegaConf.create([tag.strip() for tag in os.environ.get("WANDB_TAGS", "").split(",") if tag.strip()])


def name_apart(cfg: DictConfig, path: Path) -> None:
    """Add the folder's name to `WANDB_NAME`, because several runs of one command would share it."""
    name = OmegaConf.select(cfg, "runtime.logger.name")
    if name and name == os.environ.get("WANDB_NAME"):
        cfg.runtime.logger.name = f"{name}-{path.name}"


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options without those that are null or empty, and with texts for numbers.

    Raises:
        ConfigError: W&B would refuse an option.
    """
    found = {name: value for name, value in options.items() if value is not None and value != ""}
    check_choice("logger.mode", found.get("mode", MODES[0]), MODES)
    if isinstance(tags := found.get("tags", []), str) or not isinstance(tags, Sequence):
        raise ConfigError(f"logger.tags must be a list, found {tags!r}: type logger.tags=[{tags}]")
    for name in sorted(found.keys() & set(TEXTS)):
        if isinstance(found[name], Mapping | Sequence) and not isinstance(found[name], str):
            raise ConfigError(f"logger.{name} must be a text, found {found[name]}: type logger.{name}=TEXT")
        found[name] = str(found[name])
    _check_texts(found)
    if ours := found.keys() & set(OURS):
        raise ConfigError(f"vaelab sets logger.{min(ours)} itself: leave it out")
    further = found.keys() - {"mode", "tags", *TEXTS}
    if further and (unknown := further - _options_of_wandb()):
        raise ConfigError(f"logger.{min(unknown)} is not an option of wandb.init: leave it out")
    return found


def _check_texts(found: Mapping[str, str]) -> None:
    project = found.get("project", "vaelab")
    if len(project) > LONGEST_NAME or re.search(FORBIDDEN, project):
        allowed = re.sub(FORBIDDEN, "-", project)[:LONGEST_NAME]
        raise ConfigError(
            f"logger.project must have at most {LONGEST_NAME} characters, without / \\ # ? % and :, "
            f"found {project!r}: type logger.project={allowed}"
        )
    if "id" in found and not is_run_id(found["id"]):
        raise ConfigError(
            "logger.id must have at most 128 bytes, without / \\ # ? % : ; , and ', "
            f"found {found['id']!r}: type logger.id=null for an id of vaelab's own"
        )
    if "dir" in found:
        path = Path(found["dir"]).expanduser().absolute()
        place = next(parent for parent in (path, *path.parents) if parent.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise ConfigError(f"logger.dir must be a folder to write to, found {path}: type logger.dir=null")


def check_sweep(found: Mapping[str, str]) -> None:
    """Refuse options with which a trial of `wandb agent` would leave its W&B sweep."""
    for name, variable in OF_SWEEP.items() if "WANDB_SWEEP_ID" in os.environ else ():
        told = os.environ.get(variable)
        if told and found.get(name, told) != told:
            raise ConfigError(
                f"logger.{name} must be {told}, as {variable} says for this W&B sweep, found {found[name]!r}: "
                f"leave logger.{name} out"
            )


def _options_of_wandb() -> set[str]:
    from pytorch_lightning.loggers import WandbLogger
    from wandb import init  # slow to import

    return {*inspect.signature(init).parameters, *inspect.signature(WandbLogger).parameters} - {"kwargs"}


def fitting(name: str, most: int = LONGEST_NAME) -> str:
    """Return a name as W&B takes it: redacted, and shortened if need be."""
    return shortened(redacted(name), most)
