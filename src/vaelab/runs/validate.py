"""What is refused before any work: what stands in the configuration and cannot be meant."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vaelab.errors import ConfigError
from vaelab.runs.configuration import short_key

AT_LEAST = {
    "latent_dim": 1,
    "batch_size": 1,
    "seed": 0,
    "data.seed": 0,
    "trainer.val_check_interval": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.max_epochs": 1,
    "trainer.max_steps": -1,
    "runtime.steps_per_call": 1,
    "runtime.seeds": 1,
    "runtime.checkpoint_every_n_steps": 1,
}
MAY_BE_NULL = ("runtime.checkpoint_every_n_steps", "trainer.val_check_interval")


CHOICES = {
    "compile": (False, True),
    "on_nan": ("stop", "skip", "rollback"),
    "matmul_precision": (None, "highest", "high", "medium"),
    "trainer.precision": (None, "32-true", "bf16-mixed", "32", 32),
    "runtime.rerun": (False, True),
    "runtime.retry_failed": (True, False),
    "runtime.cuda_graphs": (True, False),
    "runtime.stacked": (None, True, False),
}


EVALUATION = {
    "checkpoint": ("last", "best"),
    "split": ("test", "val"),
    "measure": (None, "mass"),
    "runtime.rerun": (False, True),
    "wandb_mode": ("offline", "online", "disabled"),
}


MODEL_PARTS = ("data", "model", "network", "encoder", "decoder", "prior", "objective", "estimator")
PARTS = (*MODEL_PARTS, "optimizer", "runtime.logger")
OURS = {  # arguments of Lightning's Trainer that count in chunks, or do nothing in manual optimisation
    "limit_train_batches": "trainer.max_steps counts optimiser steps",
    "overfit_batches": "trainer.max_steps counts optimiser steps",
    "fast_dev_run": "trainer.max_steps=1 runs one optimiser step",
    "limit_val_batches": "metrics are of whole splits",
    "limit_test_batches": "metrics are of whole splits",
    "accumulate_grad_batches": "choose a larger batch_size",
    "gradient_clip_val": "type gradient_clip=norm gradient_clip.max_norm=100",
    "gradient_clip_algorithm": "type gradient_clip=value gradient_clip.clip_value=10",
    "num_nodes": "a run trains on one machine; devices=2 shares it among two processes",
    "strategy": "devices=2 is all it takes to share the training among two processes",
}


def check(cfg: DictConfig, parts: Sequence[str] = PARTS) -> None:
    """Refuse what cannot be meant, before any work. What a class is given, its constructor checks.

    Args:
        cfg: the configuration. A key that it lacks has its default.
        parts: what it must have chosen.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    for key in [*cfg, *(f"trainer.{key}" for key in cfg.trainer)]:
        name = str(key).rpartition(".")[2]
        if name in cfg.runtime and key != "callbacks":
            raise ConfigError(f"{key} cannot change the result of a run: move it below runtime, as runtime.{name}")
    for key in parts:
        if OmegaConf.select(cfg, key) is None:
            name = short_key(key)
            raise ConfigError(f"{name} must be chosen, found null: type {name}= and one of those that --help lists")
    by_steps = cfg.trainer.max_epochs is None and OmegaConf.select(cfg, "trainer.max_steps", default=-1) != -1
    for key, least in AT_LEAST.items():
        may_be_null = key in MAY_BE_NULL or (key == "trainer.max_epochs" and by_steps)
        check_whole(key, OmegaConf.select(cfg, key, default=least), least, may_be_null)
    for key, allowed in CHOICES.items():
        check_choice(key, OmegaConf.select(cfg, key, default=allowed[0]), allowed)
    if OmegaConf.select(cfg, "trainer.max_steps") == 0:
        key = "trainer.max_steps"
        raise ConfigError(f"{key} must be at least 1, or -1 for no limit, found 0: type {key}=-1")
    for key, instead in OURS.items():
        if key in cfg.trainer:
            raise ConfigError(f"trainer.{key} is not for the steps of a run here: {instead}")
    num_processes = processes_of(cfg.runtime)
    if OmegaConf.select(cfg, "runtime.stacked"):
        others = {"compile": (cfg.compile, False), "on_nan": (cfg.on_nan, "stop"), "devices": (num_processes, 1)}
        for key, (found, needed) in others.items():
            if found != needed:
                typed = f"{key}={_typed(found)}"
                raise ConfigError(
                    f"stacked=true does not go with {typed}: type stacked=false or {key}={_typed(needed)}"
                )


def check_evaluation(cfg: DictConfig) -> None:
    """Refuse what cannot be meant by the command line of an evaluation.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    for key, allowed in EVALUATION.items():
        check_choice(key, OmegaConf.select(cfg, key), allowed)
    estimator = cfg.get("estimator")
    if estimator is not None and "_target_" not in estimator:
        raise ConfigError(
            f"estimator.{next(iter(estimator))} is of an estimator that is not chosen: type estimator=importance, ais, "
            "hmc or all with it"
        )
    for key in ("limit", "num_samples", "dequantizations"):
        check_whole(key, cfg[key], 1, may_be_null=key != "dequantizations")
    processes_of(cfg.runtime)


def check_complete(cfg: DictConfig) -> None:
    """Refuse a configuration that lacks a value.

    Raises:
        ConfigError: names the first key that has none.
    """
    if missing := OmegaConf.missing_keys(cfg):
        raise ConfigError(f"{min(missing)} is missing: type {min(missing)}=VALUE (--help tells more)")


def processes_of(runtime: Mapping[str, Any]) -> int:
    """Return how many processes share a run or an evaluation: one for each device.

    Raises:
        ConfigError: `devices` is neither a number of them nor a list of GPUs.
    """
    devices = runtime["devices"]
    if isinstance(devices, Sequence) and devices and all(isinstance(device, int) for device in devices):
        if len(set(devices)) < len(devices):
            raise ConfigError(f"devices={devices} names a GPU twice: type each number once")
        return len(devices)
    if isinstance(devices, str) and devices.isdecimal():
        devices = int(devices)
    if isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1:
        return devices
    raise ConfigError(
        f"devices must be a whole number of at least 1, or a list of GPUs, found {devices}: type devices=1"
    )


def check_whole(key: str, value: Any, least: int, may_be_null: bool = False) -> None:
    """Refuse a value that is no whole number, or too small.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not (whole or (value is None and may_be_null)):
        name = short_key(key)
        raise ConfigError(f"{name} must be a whole number of at least {least}, found {value!r}: type {name}={least}")


def check_choice(key: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is none of those allowed.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    if not any(type(value) is type(choice) and value == choice for choice in allowed):
        name = short_key(key)
        raise ConfigError(f"{name} must be {_listed(allowed)}, found {value!r}: type {name}={_typed(allowed[0])}")


def _listed(values: Sequence[Any]) -> str:
    *most, last = map(_typed, values)
    return f"{', '.join(most)} or {last}"


def _typed(value: Any) -> str:
    return "null" if value is None else str(value).lower()


@contextmanager
def refusing(part: str) -> Iterator[None]:
    """Turn the errors of a class that was given the wrong arguments into a ConfigError that says where to look."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{error} (in the configuration of {part}; HYDRA_FULL_ERROR=1 shows where)") from error
