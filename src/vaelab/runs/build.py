"""Build the data, the module and the trainer of a run from its configuration."""

from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from pytorch_lightning.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from vaelab.data import ImageData
from vaelab.errors import ConfigError
from vaelab.evaluation.declared import metric_of
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.runs.folder.checkpoint_files import CheckpointFiles, readable
from vaelab.runs.model import build_objective, build_weight_prior, check_estimator
from vaelab.runs.probes.calls import check_kind
from vaelab.runs.processes.cores import this_process
from vaelab.runs.serving import build_vae
from vaelab.runs.validate import processes_of, refusing
from vaelab.training import Checkpoints, ProgressBar, Schedule, VAEModule
from vaelab.training.cuda_graph import stay_on_cpu
from vaelab.training.fit_loop import FitLoop
from vaelab.training.step import check_clip
from vaelab.vae import VAE

KNOWN_PACKAGES = ("vaelab", "pytorch_lightning", "lightning")  # their callbacks log no metrics of their own
PLAIN = {"_convert_": "all"}  # because checkpoints store arguments, and a ListConfig could not be read again


def make_trainer(
    cfg: DictConfig, path: Path, callbacks: list[Callback], files: CheckpointFiles | None = None
) -> Trainer:
    """Return the trainer of the run in `path`, without a logger. Also set the global precision of matrix products."""
    torch.set_float32_matmul_precision(cfg.get("matmul_precision") or "highest")  # global until the next run
    ours = {
        "accelerator": cfg.runtime.accelerator,
        "devices": cfg.runtime.devices,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,  # vaelab's progress bar is a callback
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "callbacks": callbacks,
        "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
        "logger": False,
        "profiler": cfg.runtime.profiler,
        # wait for slow processes; if one is lost, `distributed` ends all others
        "strategy": DDPStrategy(timeout=timedelta(days=30)) if processes_of(cfg.runtime) > 1 else "auto",
        "default_root_dir": str(path),
        # set explicitly, because Lightning would choose its SLURM environment, which handles signals itself
        "plugins": [
            LightningEnvironment() if this_process()[1] == 1 else TorchElasticEnvironment(),
            files or CheckpointFiles(),
        ],
    }
    for key in cfg.trainer.keys() & ours.keys():
        raise ConfigError(f"vaelab sets trainer.{key} itself: leave out trainer.{key}")
    epochs = -1 if cfg.trainer.max_epochs is None else cfg.trainer.max_epochs
    # the module counts optimiser steps; the trainer would count chunks
    limits = {"max_epochs": epochs, "max_steps": -1, "val_check_interval": None}
    # nested below `trainer`, so that error messages name this key
    node = OmegaConf.create({"trainer": {"_target_": "pytorch_lightning.Trainer", **cfg.trainer}})
    with refusing("the trainer"):
        trainer: Trainer = instantiate(node.trainer, **ours, **limits)
    FitLoop.replace(trainer)
    device = trainer.strategy.root_device.type
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"a run trains on cpu or cuda, found {device}: type accelerator=cpu")
    return trainer


def make_callbacks(cfg: DictConfig, bar: bool, known: Collection[str] = ()) -> list[Callback]:
    """Return the callbacks that `cfg` chooses. If `bar` is false, the progress bar is silent: another run shows one.

    Refuse a callback that monitors none of the metrics in `known`, or whose mode prefers the worst value.
    """
    nodes = {**(cfg.get("callbacks") or {}), **(cfg.runtime.callbacks or {})}
    if "every_n_steps" in (nodes.get("checkpoints") or ()):
        raise ConfigError("callbacks.checkpoints.every_n_steps is not supported: type checkpoint_every_n_steps=")
    chosen = {name: node for name, node in nodes.items() if node and (bar or name != "pace")}
    callbacks = {name: instantiate(node, **PLAIN) for name, node in chosen.items()}
    own = [callback for callback in callbacks.values() if type(callback).__module__.split(".")[0] not in KNOWN_PACKAGES]
    for name, callback in callbacks.items():
        check_kind(f"callbacks.{name}", callback, Callback)
        if isinstance(callback, Checkpoints):
            callback.every_n_steps = cfg.runtime.checkpoint_every_n_steps
        if isinstance(callback, ProgressBar):
            callback.silent = not bar
        if not own and known:  # a callback of the user's own may log a metric for another one to monitor
            check_monitor(f"callbacks.{name}", callback, known)
    return list(callbacks.values())


def check_monitor(key: str, callback: Callback, known: Collection[str]) -> None:
    """Refuse a callback that would wait for a metric that never comes, or take the worst value for the best."""
    monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
    if monitor is None or (isinstance(callback, ModelCheckpoint) and monitor in ("epoch", "step")):
        return
    if monitor not in known:
        expected = ", ".join(known)
        raise ConfigError(f"{key}.monitor must be one of {expected}, found {monitor}: type {key}.monitor=val/elbo")
    better = metric_of(monitor).better
    right = {"higher": "max", "lower": "min"}.get(better or "", mode)
    if mode in ("min", "max") and mode != right:
        reason = f"because a {better} {monitor} is better, found {mode}"
        raise ConfigError(f"{key}.mode must be {right}, {reason}: type ++{key}.mode={right}")


def build(cfg: DictConfig) -> tuple[ImageData, VAEModule]:
    """Build the data, and the module that trains a model on them."""
    data = build_data(cfg)
    with refusing("the model"):
        vae = build_vae(cfg, data)
    objective = build_objective(cfg.objective, processes_of(cfg.runtime), vae)
    optimizer, gradient_clip, lr_schedule, estimator = (
        instantiate(cfg.get(name), **PLAIN) for name in ("optimizer", "gradient_clip", "lr_schedule", "estimator")
    )
    with refusing("gradient_clip"):
        if gradient_clip is not None:
            check_clip(gradient_clip)
    try_out(optimizer, lr_schedule, vae)
    check_estimator(estimator, vae)
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
        compiled=cfg.compile,
        cuda_graphs=cfg.runtime.cuda_graphs,
        on_nan=cfg.on_nan,
    )
    return data, module


def try_out(optimizer: Callable[..., Optimizer], lr_schedule: Schedule | None, vae: VAE) -> None:
    """Take a step with a copy of the parameters, and refuse what fails, or what a checkpoint could not store."""
    parameters = [nn.Parameter(p.detach().clone(), p.requires_grad) for p in vae.parameters()]
    for parameter in filter(lambda p: p.requires_grad, parameters):
        parameter.grad = torch.ones_like(parameter)
    with refusing("the optimizer", (Exception,)):
        trial = optimizer(parameters)
        check_kind("optimizer", trial, Optimizer)
        stay_on_cpu(trial)
        trial.step()
    state = {"optimizer_states": [trial.state_dict()]}
    if lr_schedule is not None:
        if not isinstance(lr_schedule, Schedule):
            raise ConfigError(
                "lr_schedule._target_ must be vaelab.training.Schedule, whose argument scheduler makes a scheduler of "
                "PyTorch: type lr_schedule=decay lr_schedule.scheduler._target_=torch.optim.lr_scheduler.NAME"
            )
        with refusing("lr_schedule", (Exception,)):
            state["lr_schedulers"] = [lr_schedule.try_out(trial).state_dict()]
    readable(state)


def build_data(cfg: DictConfig) -> ImageData:
    """Build the data that `cfg` chooses. The decoder later determines which kind of pixels they serve."""
    return instantiate(
        cfg.data,
        data_dir=cfg.runtime.data_dir,
        batch_size=cfg.batch_size,
        batches_per_chunk=cfg.runtime.steps_per_call,
        shuffle_seed=cfg.seed,
        pause_every=cfg.trainer.get("val_check_interval"),
    )


def module_for_evaluation(cfg: DictConfig, vae: VAE) -> EvaluationModule:
    """Build the module that evaluates `vae`, without the parts that only training needs."""
    objective, estimator = build_objective(cfg.objective, 1, vae), instantiate(cfg.estimator)
    return EvaluationModule(vae, objective, estimator, cfg.seed)
