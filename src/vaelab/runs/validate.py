"""Refuse invalid configurations before any work begins."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError, DataError
from vaelab.runs.configuration import short_key
from vaelab.runs.own_code import failure_of
from vaelab.security.untrusted import reason_of

AT_LEAST = {"seed": 0, "data.seed": 0, "latent_dim": 1, "batch_size": 1} | {
    **{f"trainer.{key}": 1 for key in ("max_epochs", "max_steps", "val_check_interval", "check_val_every_n_epoch")},
    **{f"runtime.{key}": 1 for key in ("seeds", "steps_per_call", "checkpoint_every_n_steps")},
}
NOT_GIVEN = {"trainer.max_steps": -1, "trainer.val_check_interval": None} | dict.fromkeys(
    ("runtime.steps_per_call", "runtime.checkpoint_every_n_steps")
)
CHOICES = {
    "compile": (False, True),
    "on_nan": ("stop", "skip", "rollback"),
    "matmul_precision": (None, "highest", "high", "medium"),
    "trainer.precision": (None, "32-true", "bf16-mixed", "32", 32),
    "runtime.rerun": (False, True),
    "runtime.retry_failed": (True, False),
    "runtime.keep": ("all", "best"),
    "runtime.cuda_graphs": (True, False),
    "runtime.stacked": (None, True, False),
}
EVALUATION = {
    "checkpoint": ("last", "best"),
    "split": ("test", "val"),
    "measure": (None, "mass"),
    "inference_gap": (True, False),
    "runtime.rerun": (False, True),
    "wandb_mode": ("offline", "online", "disabled"),
}
WHOLE_SPLITS = "metrics need whole splits; shorten training with trainer.max_steps"
CLIPS = "type gradient_clip=norm or gradient_clip=value"
INSTEAD = {  # what to type instead of arguments that count chunks, or that manual optimisation ignores
    **dict.fromkeys(("limit_train_batches", "limit_val_batches", "limit_test_batches"), WHOLE_SPLITS),
    **dict.fromkeys(("overfit_batches", "fast_dev_run"), WHOLE_SPLITS),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), CLIPS),
    "accumulate_grad_batches": "choose a larger batch_size",
    **dict.fromkeys(("num_nodes", "strategy"), "type devices=2 for two processes on this machine"),
}
MODEL_PARTS = ("data", "model", "network", "encoder", "decoder", "prior", "objective", "estimator")
PARTS = (*MODEL_PARTS, "optimizer", "runtime.logger")


def check(cfg: DictConfig, parts: Sequence[str] = PARTS, several: bool = False) -> None:
    """Refuse invalid values and missing parts. Do not check the arguments of classes; their constructors do.

    A missing key counts as its default; `parts` must not be null. If `several`, the run is one of a sweep's.
    """
    for key in [*cfg, *(f"trainer.{key}" for key in cfg.trainer)]:
        name = str(key).rpartition(".")[2]
        if name in cfg.runtime and key != "callbacks":
            value = OmegaConf.select(cfg, str(key))
            instead = f"{name}=" if OmegaConf.is_config(value) else f"{name}={_typed(value)}"
            raise ConfigError(
                f"{key} cannot change the result of a run: type {instead}, or move it to runtime.{name} in a file"
            )
    for key in cfg.trainer:
        if key in INSTEAD:
            raise ConfigError(f"trainer.{key} is not supported: {INSTEAD[key]}")
    for key in parts:
        if OmegaConf.select(cfg, key) is None:
            name = short_key(key)
            raise ConfigError(f"{name} must be chosen, found null: type {name}= with a choice from --help")
    by_steps = OmegaConf.select(cfg, "trainer.max_steps", default=-1) != -1
    not_given = NOT_GIVEN | ({"trainer.max_epochs": None} if by_steps else {})
    for key, least in AT_LEAST.items():
        value = OmegaConf.select(cfg, key, default=least)
        if key not in not_given or value != not_given[key]:
            check_whole(key, value, least)
    for key, value in {"seed": cfg.get("seed"), "data.seed": OmegaConf.select(cfg, "data.seed")}.items():
        last = (value or 0) + (cfg.runtime.get("seeds", 1) - 1 if key == "seed" else 0)
        if last >= 2**64:  # `vaelab.randomness.LARGEST_SEED`, which would import PyTorch
            raise ConfigError(f"{key} must be at most 2^64 - 1, found {last}: type a smaller {key}=")
    for key, allowed in CHOICES.items():
        check_choice(key, OmegaConf.select(cfg, key, default=allowed[0]), allowed)
    if cfg.get("compile"):
        check_compiler()
    shared = processes_of(cfg.runtime) > 1
    if OmegaConf.select(cfg, "runtime.stacked") and (shared or cfg.compile or cfg.on_nan != "stop"):
        raise ConfigError("stacked=true needs compile=false, on_nan=stop and devices=1: type these, or stacked=false")
    if "runtime.logger" in parts:
        for node in logger_nodes(cfg.runtime):
            check_logger(node, several or cfg.runtime.seeds > 1)


def check_compiler() -> None:
    """Refuse `compile=true` without a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # slow to import
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise ConfigError("compile=true needs a C++ compiler: install g++, or type compile=false") from error


def logger_nodes(runtime: DictConfig) -> list[DictConfig]:
    """Return the nodes of a run's loggers: `logger`, and those of `loggers` if it has several."""
    return [runtime.logger, *(runtime.get("loggers") or {}).values()]


def check_logger(node: DictConfig, several: bool) -> None:
    """Refuse a logger that cannot be made, and an id that several runs of W&B would share."""
    with refusing("the logger"):
        make = instantiate(node)
        inspect.signature(getattr(make, "func", make)).bind("run", "group", **getattr(make, "keywords", {}))
    if several and node.get("id"):
        raise ConfigError(
            f"logger.id={node.id}, which may come from WANDB_RUN_ID, is the id of one W&B run, and this command makes "
            "several: type logger.id=null, or leave out -m and seeds="
        )


def check_evaluation(cfg: DictConfig) -> None:
    """Refuse an invalid value on the command line of an evaluation."""
    if not (cfg.run_dir or cfg.runtime.sweep):
        raise ConfigError("run_dir is missing: type run_dir=logs/runs/NAME, or sweep=logs/sweeps/NAME")
    if cfg.run_dir and cfg.runtime.sweep:
        raise ConfigError(f"run_dir={cfg.run_dir} is one run, and sweep={cfg.runtime.sweep} several: type one of them")
    for key, allowed in EVALUATION.items():
        check_choice(key, OmegaConf.select(cfg, key), allowed)
    for key in ("limit", "num_samples", "dequantizations"):
        if cfg[key] is not None or key == "dequantizations":
            check_whole(key, cfg[key], 1)


def check_complete(cfg: DictConfig) -> None:
    """Refuse a configuration that lacks a value."""
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{min(missing)} is missing: type {min(missing)}=VALUE (see --help)")


def processes_of(runtime: Mapping[str, Any]) -> int:
    """Return how many processes share a run or an evaluation: one for each device."""
    devices = runtime["devices"]
    if OmegaConf.is_list(devices) or isinstance(devices, list):  # a list of GPU numbers, which Lightning checks
        devices = len(devices) or devices
    check_whole("devices", devices, 1)
    return cast(int, devices)


def check_whole(key: str, value: Any, least: int) -> None:
    """Refuse a value that is not a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        name = short_key(key)
        raise ConfigError(f"{name} must be a whole number of at least {least}, found {value!r}: type {name}={least}")


def check_choice(key: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not among `allowed`."""
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        name, (*most, last) = short_key(key), map(_typed, allowed)
        expected = f"{', '.join(most)} or {last}"
        raise ConfigError(f"{name} must be {expected}, found {value!r}: type {name}={_typed(allowed[0])}")


def _typed(value: Any) -> str:
    return "null" if value is None else str(value).lower()


@contextmanager
def refusing(part: str, errors: tuple[type[Exception], ...] = (TypeError, ValueError)) -> Iterator[None]:
    """Turn the errors of a class that was given the wrong arguments into a ConfigError that names the `part`.

    Do the same for any error of the user's own code, and name the function and the line.
    """
    try:
        yield
    except (ConfigError, DataError, InstantiationException):  # they say all of this themselves
        raise
    except Exception as error:
        if own := failure_of(error):
            raise ConfigError(own) from error
        if not isinstance(error, errors):
            raise
        kind = "" if isinstance(error, TypeError | ValueError) else f"{type(error).__name__}: "
        where = f"(in the configuration of {part}; HYDRA_FULL_ERROR=1 shows where)"
        raise ConfigError(f"{kind}{reason_of(error)} {where}") from error
