"""What is refused before any work: numbers and trainer settings that cannot be meant."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError

AT_LEAST = {
    "latent_dim": 1,
    "batch_size": 1,
    "steps_per_call": 1,
    "seed": 0,
    "seeds": 1,
    "data.seed": 0,
    "objective.num_samples": 1,
    "estimator.num_samples": 1,
    "callbacks.checkpoints.every_n_steps": 1,
    "trainer.val_check_interval": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.max_epochs": 1,
    "trainer.max_steps": -1,
}


CHOICES = {
    "rerun": (False, True),
    "retry_failed": (True, False),
    "compile": (False, True),
    "cuda_graphs": (True, False),
    "stacked": (None, True, False),
    "on_nan": ("stop", "skip", "rollback"),
    "matmul_precision": (None, "highest", "high", "medium"),
}


EVALUATION = {
    "checkpoint": ("last", "best"),
    "split": ("test", "val"),
    "measure": (None, "mass"),
    "rerun": (False, True),
    "wandb_mode": ("offline", "online", "disabled"),
}


MAY_BE_NULL = ("callbacks.checkpoints.every_n_steps", "trainer.val_check_interval")
PARTS = (
    "data",
    "model",
    "network",
    "encoder",
    "decoder",
    "prior",
    "objective",
    "estimator",
    "optimizer",
    "trainer",
    "logger",
)
PRECISIONS = (None, 32, "32", "32-true", "bf16-mixed")
OURS = {  # what the trainer would count in chunks, or not do at all in manual optimisation
    "limit_train_batches": "trainer.max_steps counts optimiser steps",
    "overfit_batches": "trainer.max_steps counts optimiser steps",
    "fast_dev_run": "trainer.max_steps=1 runs one optimiser step",
    "limit_val_batches": "metrics are of whole splits",
    "limit_test_batches": "metrics are of whole splits",
    "accumulate_grad_batches": "choose a larger batch_size",
    "gradient_clip_val": "type gradient_clip=norm gradient_clip.max_norm=100",
    "gradient_clip_algorithm": "type gradient_clip=value gradient_clip.clip_value=10",
    "num_nodes": "a run trains on one machine; trainer.devices=2 shares it among two processes",
    "strategy": "trainer.devices=2 is all it takes to share the training among two processes",
}


def check(cfg: DictConfig, parts: Sequence[str] = PARTS) -> None:
    """Refuses numbers that cannot be meant, before any work.

    Args:
        cfg: the configuration.
        parts: what it must have chosen.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    for name in parts:
        if cfg.get(name) is None:
            raise ConfigError(f"{name} must be chosen, found null: type {name}= and one of those that --help lists")
    by_steps = cfg.trainer.max_epochs is None and cfg.trainer.max_steps != -1
    for key, least in AT_LEAST.items():
        value = OmegaConf.select(cfg, key, default=least)  # data of the user's own need not say its seed
        left_open = value is None and (key in MAY_BE_NULL or (key == "trainer.max_epochs" and by_steps))
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not (whole or left_open):
            raise ConfigError(f"{key} must be a whole number of at least {least}, found {value!r}: type {key}={least}")
    for key, allowed in CHOICES.items():
        check_choice(key, cfg.get(key, allowed[0]), allowed)
    if cfg.get("stacked") and cfg.get("compile"):
        raise ConfigError("stacked=true does not go with compile=true: type stacked=false or compile=false")
    if cfg.get("stacked") and cfg.get("on_nan", "stop") != "stop":
        raise ConfigError(f"stacked=true does not go with on_nan={cfg.on_nan}: type stacked=false or on_nan=stop")
    check_trainer(cfg.trainer)
    if cfg.get("stacked") and processes_of(cfg.trainer) > 1:
        devices = cfg.trainer.devices
        raise ConfigError(
            f"stacked=true does not go with trainer.devices={devices}: type stacked=false or trainer.devices=1"
        )


def check_evaluation(cfg: DictConfig) -> None:
    """Refuses what cannot be meant by the command line of an evaluation.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    for key, allowed in EVALUATION.items():
        check_choice(key, cfg[key], allowed)
    estimator = cfg.get("estimator")
    if estimator is not None and "_target_" not in estimator:
        raise ConfigError(
            f"estimator.{next(iter(estimator))} is of an estimator that is not chosen: type estimator=importance, ais, "
            "hmc or all with it"
        )
    for key in ("limit", "num_samples", "dequantizations"):
        value = cfg[key]
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not (whole or (value is None and key != "dequantizations")):
            raise ConfigError(f"{key} must be a whole number of at least 1, found {value!r}: type {key}=1")
    processes_of(cfg.trainer)


def check_complete(cfg: DictConfig) -> None:
    """Refuses a configuration that lacks a value.

    Raises:
        ConfigError: names the first key that has none.
    """
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{min(missing)} is missing: type {min(missing)}=VALUE (--help tells more)")


def processes_of(trainer: Mapping[str, Any]) -> int:
    """How many processes share a run or an evaluation: one for each device.

    Raises:
        ConfigError: `trainer.devices` is neither a number of them nor a list of GPUs.
    """
    devices = trainer["devices"]
    if isinstance(devices, Sequence) and devices and all(isinstance(device, int) for device in devices):
        if len(set(devices)) < len(devices):
            raise ConfigError(f"trainer.devices={devices} names a GPU twice: type each number once")
        return len(devices)
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    if isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1:
        return devices
    raise ConfigError(
        f"trainer.devices must be a whole number of at least 1, or a list of GPUs, found {devices}: "
        "type trainer.devices=1"
    )


def check_choice(key: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuses a value that is none of those allowed.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
        raise ConfigError(f"{key} must be {_listed(allowed)}, found {value!r}: type {key}={_typed(allowed[0])}")


def _listed(values: Sequence[Any]) -> str:
    *most, last = map(_typed, values)
    return f"{', '.join(most)} or {last}"


def _typed(value: Any) -> str:
    return "null" if value is None else str(value).lower()


def check_trainer(trainer: DictConfig) -> None:
    """Refuses what a trainer of Lightning takes and a run here does not.

    Raises:
        ConfigError: names the key, and what to type instead.
    """
    if trainer.max_steps == 0:
        raise ConfigError(
            "trainer.max_steps must be at least 1, or -1 for no limit, found 0: type trainer.max_steps=-1"
        )
    for key, instead in OURS.items():
        if trainer.get(key) is not None:
            raise ConfigError(f"trainer.{key} is not for the steps of a run here: {instead}")
    if trainer.get("precision") not in PRECISIONS:
        raise ConfigError(f"trainer.precision must be 32-true or bf16-mixed, found {trainer.precision}")
    processes_of(trainer)


@contextmanager
def refusing(part: str) -> Iterator[None]:
    """Turns the errors of a class that was given the wrong arguments into a ConfigError that says where to look."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{error} (in the configuration of {part}; HYDRA_FULL_ERROR=1 shows where)") from error
