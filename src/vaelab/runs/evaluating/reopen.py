"""Reopen a run for evaluation, from a folder that may be untrusted. Instantiate only the parts that evaluation needs.

The stored optimizer, schedule, callbacks, logger and trainer are never instantiated; evaluation has its own trainer.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from vaelab.data import ImageData
from vaelab.errors import ConfigError, RunFolderError
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.runs.build import build_data, module_for_evaluation
from vaelab.runs.cli import FAILURE, USAGE
from vaelab.runs.folder.contents import check_same_data, read_config
from vaelab.runs.folder.weights import Weights
from vaelab.runs.model import model_for
from vaelab.runs.serving import build_vae
from vaelab.runs.validate import MODEL_PARTS, check
from vaelab.security.allow_list import check_trusted, entries
from vaelab.security.checkpoint_scan import check_weights
from vaelab.security.redaction import at_home, redacted
from vaelab.security.untrusted import reason_of

NUMBERS = ("latent_dim", "batch_size", "seed")
SPARE_BYTES = 2**24  # for tensors of a model that are not stored with its weights

log = logging.getLogger(__name__)


def stored_config(folder: Path, cfg: DictConfig, trusted: Sequence[str]) -> DictConfig:
    """Return what evaluation needs: parts from the folder, checked against the allow-list, and the rest from `cfg`."""
    file = folder / "config.yaml"
    stored = at_home(read_config(folder))
    needed = {name: stored.get(name) for name in (*MODEL_PARTS, *NUMBERS, "matmul_precision")}
    trainer = stored.get("trainer")
    precision = trainer.get("precision") if isinstance(trainer, dict) else None
    needed["trainer"] = {"max_epochs": 1, "precision": precision}
    if cfg.get("estimator") is not None:
        needed["estimator"] = OmegaConf.to_container(cfg.estimator, resolve=True)
    if cfg.get("num_samples") is not None:
        nodes = [node for _, _, node in entries({"": needed["estimator"]}) if isinstance(node, dict)]
        if not (found := [node for node in nodes if "num_samples" in node]):
            raise ConfigError("num_samples needs importance sampling: type estimator=importance, or no num_samples=")
        for node in found:
            node["num_samples"] = cfg.num_samples
    check_trusted(needed, trusted, file)
    for name in MODEL_PARTS:
        node = needed[name]
        if not isinstance(node, dict) or "_target_" not in node:
            raise RunFolderError(f"{file}: {name} lacks _target_, the path of its class")
    own = OmegaConf.create(needed | {"runtime": {"devices": 1, **cfg.runtime, "steps_per_call": 1, "profiler": None}})
    check(own, MODEL_PARTS)
    return own


def reopen(
    cfg: DictConfig, weights: Weights, folder: Path, trusted: Sequence[str]
) -> tuple[ImageData, EvaluationModule]:
    """Build a run's data and evaluation module from the result of `stored_config` and the run's weights."""
    data = build_data(cfg)
    check_outline(cfg, data, weights, trusted)
    module = module_for_evaluation(cfg, build_vae(cfg, data))
    if not (folder / "record.json").exists():
        log.warning("%s has no record.json: the run may have been trained on different data", folder)
    check_same_data(folder, redacted(data.record()))
    check_weights(module, weights.state, weights.path)
    module.load_state_dict(weights.state)
    module.steps, module.samples_seen = weights.steps, weights.samples_seen
    return data, module


def check_outline(cfg: DictConfig, data: ImageData, weights: Weights, trusted: Sequence[str]) -> None:
    """Compare the model with the weights before it takes any memory, because a configuration may ask for any size."""
    try:
        with torch.device("meta"):
            module = module_for_evaluation(cfg, model_for(cfg, data.event_shape))
    except Exception:
        if trusted:  # the constructor of a trusted class may need real tensors
            return
        raise
    check_weights(module, weights.state, weights.path)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
    if needed > 4 * weights.num_bytes + SPARE_BYTES:
        raise RunFolderError(
            f"the model of config.yaml takes {needed:,} bytes, and {weights.path} holds {weights.num_bytes:,}; "
            "they are not from the same run"
        )


@contextmanager
def blaming(folder: Path, trusted: Sequence[str]) -> Iterator[None]:
    """Turn an unexpected error into a RunFolderError, unless packages are trusted, because these may have a bug."""
    try:
        yield
    except Exception as error:
        ours = isinstance(error, (*USAGE, *FAILURE)) and not isinstance(error, ImportError)
        if trusted or ours:
            raise
        raise RunFolderError(
            f"{folder / 'config.yaml'} describes a run that cannot be evaluated ({type(error).__name__}: "
            f"{reason_of(error)}; HYDRA_FULL_ERROR=1 shows where)"
        ) from error
