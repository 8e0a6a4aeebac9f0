"""From a composed configuration to objects."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy

from vaelab.data import ImageData
from vaelab.errors import ConfigError
from vaelab.estimators import Estimator, Several
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.runs.model import build_objective, build_vae, build_weight_prior
from vaelab.runs.processes.cores import this_process
from vaelab.runs.validate import check, processes_of, refusing
from vaelab.training import Checkpoints, VAEModule
from vaelab.training.step import check_clip
from vaelab.vae import VAE

log = logging.getLogger(__name__)
CHOSEN = ("max_epochs", "max_steps", "val_check_interval")  # arguments of the trainer that a run translates


def make_trainer(cfg: DictConfig, path: Path, callbacks: list[Callback]) -> Trainer:
    """Return the trainer of a run whose folder is `path`; the logger comes later. Set the precision of products.

    Raises:
        ConfigError: arguments that Lightning does not take, or a device that is neither a CPU nor a CUDA GPU.
    """
    check_device(cfg.runtime)
    # a process that is lost ends the others, by way of `distributed`; one that takes long is waited for
    strategy = DDPStrategy(timeout=timedelta(days=30)) if processes_of(cfg.runtime) > 1 else "auto"
    torch.set_float32_matmul_precision(cfg.get("matmul_precision") or "highest")  # of this process, until the next run
    ours = {
        "accelerator": cfg.runtime.accelerator,
        "devices": cfg.runtime.devices,
        "max_epochs": -1 if cfg.trainer.max_epochs is None else cfg.trainer.max_epochs,
        "max_steps": -1,  # the module counts optimiser steps; the trainer would count chunks
        "val_check_interval": None,  # likewise
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,  # ours is among the callbacks
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": callbacks,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "logger": False,
        "profiler": cfg.runtime.profiler,
        "strategy": strategy,
        "default_root_dir": str(path),
        # not SLURM's, which has signals and checkpoints of its own
        "plugins": [LightningEnvironment() if this_process()[1] == 1 else TorchElasticEnvironment()],
    }
    for key in cfg.trainer:
        if key in ours and key not in CHOSEN:
            raise ConfigError(f"trainer.{key} is the same for every run: leave it out (--help lists what there is)")
    node = OmegaConf.create({"trainer": {"_target_": "pytorch_lightning.Trainer", **cfg.trainer}})  # for errors
    with refusing("the trainer"):
        trainer: Trainer = instantiate(node.trainer, **ours)
    device = trainer.strategy.root_device.type
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"a run trains on cpu or cuda, found {device}: type accelerator=cpu")
    return trainer


def make_callbacks(cfg: DictConfig, bar: bool) -> list[Callback]:
    """Return the callbacks that `cfg` chooses; without the progress bar if `bar` is false."""
    if OmegaConf.select(cfg, "callbacks.checkpoints.every_n_steps") is not None:
        raise ConfigError(
            "callbacks.checkpoints.every_n_steps cannot change the result: type checkpoint_every_n_steps="
        )
    harmless = {name: node for name, node in (cfg.runtime.callbacks or {}).items() if bar or name != "progress"}
    nodes = {**(cfg.get("callbacks") or {}), **harmless}
    callbacks = [instantiate(node) for node in nodes.values() if node is not None]
    for callback in callbacks:
        if isinstance(callback, Checkpoints):
            callback.every_n_steps = cfg.runtime.checkpoint_every_n_steps
    return callbacks


def check_device(runtime: DictConfig) -> None:
    """Refuse a GPU that is not there.

    Raises:
        ConfigError: says how many there are.
    """
    accelerator, devices, gpus = runtime.accelerator, runtime.devices, torch.cuda.device_count()
    if accelerator in ("gpu", "cuda") and gpus == 0:
        raise ConfigError(f"accelerator={accelerator}, and PyTorch finds no GPU: type accelerator=cpu")
    there = 0 if accelerator == "cpu" else gpus
    if not OmegaConf.is_list(devices):
        if gpus and accelerator != "cpu" and int(devices) > gpus:
            raise ConfigError(f"devices={devices}, and PyTorch finds {gpus} GPUs: type devices={gpus}")
    else:
        if not set(devices) <= set(range(there)):
            raise ConfigError(f"devices={devices} names a GPU by number, of {there} that there are: type devices=1")


def build(cfg: DictConfig) -> tuple[ImageData, VAEModule]:
    """Make the data, and the module that trains a model of their shape.

    Raises:
        ConfigError: a number out of range, or pixels that the head does not model.
        DataError: data that is missing or damaged.
        hydra.errors.InstantiationException: a target that refuses its arguments.
    """
    check(cfg)
    data = build_data(cfg)
    with refusing("the model"):
        vae = build_vae(cfg, data)
    objective = build_objective(cfg.objective, processes_of(cfg.runtime))
    optimizer = instantiate(cfg.optimizer)
    with refusing("the optimizer"):
        trial = optimizer(vae.parameters())  # made to fail here, if it does, and not when training begins
    gradient_clip = instantiate(cfg.get("gradient_clip"))
    with refusing("gradient_clip"):
        if gradient_clip is not None:
            check_clip(gradient_clip)
    lr_schedule = instantiate(cfg.get("lr_schedule"))
    with refusing("lr_schedule"):
        if lr_schedule is not None:
            lr_schedule.try_out(trial)
    estimator = instantiate(cfg.estimator)
    check_estimator(estimator, cfg.latent_dim)
    module = VAEModule(
        vae,
        objective,
        optimizer,
        estimator,
        weight_prior=build_weight_prior(cfg.get("weight_prior")),
        gradient_clip=gradient_clip,
        lr_schedule=lr_schedule,
        seed=cfg.seed,
        max_steps=cfg.trainer.max_steps,
        compile_objective=cfg.compile,
        cuda_graphs=cfg.runtime.cuda_graphs,
        on_nan=cfg.on_nan,
    )
    return data, module


def build_data(cfg: DictConfig) -> ImageData:
    """Make the data that `cfg` chooses, before it is known which pixels they serve."""
    return instantiate(
        cfg.data,
        data_dir=cfg.runtime.data_dir,
        batch_size=cfg.batch_size,
        batches_per_chunk=cfg.runtime.steps_per_call,
        shuffle_seed=cfg.seed,
        pause_every=cfg.trainer.get("val_check_interval"),
    )


def module_for_evaluation(cfg: DictConfig, vae: VAE) -> EvaluationModule:
    """Make the module that evaluates `vae`, without what only training needs."""
    objective, estimator = build_objective(cfg.objective, num_processes=1), instantiate(cfg.estimator)
    return EvaluationModule(vae, objective, estimator, cfg.seed)


def check_estimator(estimator: Any, latent_dim: int) -> None:
    """Refuse an estimator that is none, or not for a latent of this size.

    Raises:
        ConfigError: says why.
    """
    if isinstance(estimator, Several):
        refusals = [one.refusal(latent_dim) for one in estimator.estimators.values()]
        refused = refusals[0] if all(refusals) else None
    elif isinstance(estimator, Estimator):
        refused = estimator.refusal(latent_dim)
    else:
        raise ConfigError(
            f"estimator._target_ names {type(estimator).__name__}, expected a class with what vaelab.estimators."
            "Estimator lists: name, label, unbiased, part_size, refusal(latent_dim) and __call__(vae, x)"
        )
    if refused is not None:
        raise ConfigError(f"estimator={estimator.name}: {refused}")
