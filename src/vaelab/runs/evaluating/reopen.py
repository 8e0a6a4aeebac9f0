"""A run opened again for evaluation, from a folder that may be a stranger's: of its configuration only what that needs.

The stored optimizer, schedule, callbacks, logger and trainer are never made; the trainer is the evaluation's own.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vaelab.data import ImageData
from vaelab.errors import ConfigError, DataError, PointMassError, RunFolderError
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.runs.build import build_data, module_for_evaluation
from vaelab.runs.folder.contents import check_same_data, read_config
from vaelab.runs.folder.weights import Weights
from vaelab.runs.model import build_vae, model_for
from vaelab.runs.validate import MODEL_PARTS, check
from vaelab.security.allow_list import check_trusted
from vaelab.security.checkpoint_scan import check_weights
from vaelab.security.redaction import at_home, redacted
from vaelab.security.untrusted import reason_of

NUMBERS = ("latent_dim", "batch_size", "seed")
SPARE_BYTES = 2**24  # for what a model holds beside its weights

log = logging.getLogger(__name__)


def stored_config(folder: Path, cfg: DictConfig, trusted: Sequence[str]) -> DictConfig:
    """Return what evaluation needs of a folder's configuration, checked to be harmless; the rest is from `cfg`.

    Raises:
        ConfigError: a number out of range.
        RunFolderError: no run folder, or a configuration that asks for what it may not.
    """
    file = folder / "config.yaml"
    stored = at_home(read_config(folder))
    needed = {name: stored.get(name) for name in (*MODEL_PARTS, *NUMBERS, "matmul_precision")}
    trainer = stored.get("trainer")
    precision = trainer.get("precision") if isinstance(trainer, dict) else None
    needed["trainer"] = {"max_epochs": 1, "precision": precision}
    if cfg.get("estimator") is not None:
        needed["estimator"] = OmegaConf.to_container(cfg.estimator, resolve=True)
    if cfg.num_samples is not None:
        set_num_samples(needed["estimator"], cfg.num_samples)
    check_trusted(needed, trusted, file)
    for name in MODEL_PARTS:
        node = needed[name]
        if not isinstance(node, dict) or "_target_" not in node:
            raise RunFolderError(f"{file}: {name} names no class: expected _target_")
    runtime = OmegaConf.to_container(cfg.runtime, resolve=True)
    assert isinstance(runtime, dict)
    own = OmegaConf.create(needed | {"runtime": runtime | {"steps_per_call": 1, "profiler": None}})
    check(own, MODEL_PARTS)
    return own


def set_num_samples(estimator: Any, num_samples: int) -> None:
    """Set the number of samples of an estimator, or of those of several that draw samples.

    Raises:
        ConfigError: none does.
    """
    nodes = [estimator, *estimator.values()] if isinstance(estimator, dict) else []
    found = [node for node in nodes if isinstance(node, dict) and "num_samples" in node]
    if not found:
        raise ConfigError("num_samples is of importance sampling: type estimator=importance, or leave it out")
    for node in found:
        node["num_samples"] = num_samples


def reopen(
    cfg: DictConfig, weights: Weights, folder: Path, trusted: Sequence[str]
) -> tuple[ImageData, EvaluationModule]:
    """Make the data and the model of a run, with the weights given.

    Args:
        cfg: of `stored_config`.
        weights: of `read_weights`.
        folder: the run folder.
        trusted: packages whose classes may be among the model's.

    Raises:
        DataError: data that are missing or damaged.
        RunFolderError: other data than the run was trained on, weights of another model, or one that cannot be made.
    """
    data = build_data(cfg)
    if not trusted or _can_be_outlined(cfg, data):
        check_outline(cfg, data, weights)
    module = module_for_evaluation(cfg, build_vae(cfg, data))
    if not (folder / "record.json").exists():
        log.warning("%s has no record.json: the data may be others than those that the run was trained on", folder)
    check_same_data(folder, redacted(data.record()))
    check_weights(module, weights.state, weights.path)
    module.load_state_dict(weights.state)
    module.steps, module.samples_seen = weights.steps, weights.samples_seen
    return data, module


def check_outline(cfg: DictConfig, data: ImageData, weights: Weights) -> None:
    """Compare the model with the weights before it takes any memory, because a configuration may claim any size.

    Raises:
        RunFolderError: they differ, or the model holds far more than its weights.
    """
    module = _outlined(cfg, data)
    check_weights(module, weights.state, weights.path)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    if needed > 4 * weights.num_bytes + SPARE_BYTES:
        raise RunFolderError(
            f"the model of config.yaml takes {needed:,} bytes, and {weights.path} holds {weights.num_bytes:,}; "
            "the two are not of one run"
        )


def _outlined(cfg: DictConfig, data: ImageData) -> EvaluationModule:
    with torch.device("meta"):
        return module_for_evaluation(cfg, model_for(cfg, data.event_shape))


def _can_be_outlined(cfg: DictConfig, data: ImageData) -> bool:
    try:
        _outlined(cfg, data)
    except Exception:  # a class of the user's own may compute with numbers while it is made
        return False
    return True


@contextmanager
def blaming(folder: Path, trusted: Sequence[str]) -> Iterator[None]:
    """Blame the folder for an error in the block, except where trusted classes run, which may have a bug."""
    try:
        yield
    except (ConfigError, DataError, RunFolderError, PointMassError, HydraException, OmegaConfBaseException, OSError):
        raise
    except Exception as error:
        if trusted:
            raise
        raise RunFolderError(
            f"{folder / 'config.yaml'} describes nothing that can be evaluated ({type(error).__name__}: "
            f"{reason_of(error)}; HYDRA_FULL_ERROR=1 shows where)"
        ) from error
