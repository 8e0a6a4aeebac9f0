"""Begin a training with the weights of another run."""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError, RunFolderError
from vaelab.runs.folder.names import weights_file
from vaelab.runs.validate import check_choice
from vaelab.security.untrusted import opened

if TYPE_CHECKING:  # the command line needs only the hash, and no PyTorch
    from torch import Tensor, nn


def from_run(vae: "nn.Module", draw: "Callable[[], Tensor]", run_dir: str, checkpoint: str, sha256: str) -> bool:
    """Load the weights of another run, whose model must have the same shapes, into the model; return True.

    Only tensors are read, as an evaluation reads them, so the folder may be a stranger's.

    Args:
        vae: the model.
        draw: returns training data; not needed here.
        run_dir: the folder of the other run.
        checkpoint: `last` or `best`.
        sha256: the hash of the file of weights, which is part of this run's identity.

    Raises:
        ConfigError: the other model has other weights; the message names the first that differs.
        RunFolderError: the file cannot be read, or has another hash.
    """
    from vaelab.runs.folder.weights import read_weights
    from vaelab.security.checkpoint_scan import difference

    weights = read_weights(Path(run_dir).expanduser(), checkpoint)
    if _sha256(weights.path) != sha256:
        raise RunFolderError(f"{weights.path} has changed since the command began: type the command again")
    state = {name.removeprefix("vae."): value for name, value in weights.state.items() if name.startswith("vae.")}
    if found := difference(vae, state):
        raise ConfigError(f"initialization.run_dir={run_dir} has another model, {found}: give both the same model")
    vae.load_state_dict(state)
    return True


def weights_sha256(_parent_: DictConfig) -> str | None:
    """Return the hash of the file that `from_run` would read; None if no folder is given.

    Raises:
        ConfigError: there is no such file.
    """
    if OmegaConf.is_missing(_parent_, "run_dir"):
        return None
    check_choice("initialization.checkpoint", _parent_.checkpoint, ("best", "last"))
    folder = Path(_parent_.run_dir).expanduser()
    try:
        return _sha256(weights_file(folder, _parent_.checkpoint))
    except (FileNotFoundError, RunFolderError) as error:
        others = [name for name in ("best", "last") if os.path.lexists(weights_file(folder, name))]
        instead = f"initialization.checkpoint={others[0]}" if others else "the folder of a run"
        missing = f"has no {_parent_.checkpoint}.ckpt"
        raise ConfigError(f"initialization.run_dir={_parent_.run_dir} {missing}: type {instead}") from error


def _sha256(path: Path) -> str:
    with opened(path) as file:
        status = os.fstat(file.fileno())
    return _hash_of(path.absolute(), status.st_mtime_ns, status.st_size)


@lru_cache  # a command line is resolved several times
def _hash_of(path: Path, modified: int, size: int) -> str:
    with opened(path) as file:
        return hashlib.sha256(file.read()).hexdigest()
