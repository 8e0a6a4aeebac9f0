"""From a composed configuration to objects: names for folders, checks before any work, and `build`."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vaelab.conditional import VAE
from vaelab.data import ImageData
from vaelab.module import VAEModule
from vaelab.randomness import seed_draws
from vaelab.run import BUDGET, NOT_SCIENCE, identity

_BESIDE_PACKAGE = Path(__file__).parent / "conf"  # in a wheel
_IN_CHECKOUT = Path(__file__).parents[2] / "conf"
CONF = str(_BESIDE_PACKAGE if _BESIDE_PACKAGE.exists() else _IN_CHECKOUT)

AT_LEAST = {
    **{"latent_dim": 1, "batch_size": 1, "steps_per_call": 1, "seed": 0, "data.seed": 0},
    **{"objective.num_samples": 1, "estimator.num_samples": 1, "trainer.max_epochs": 1, "trainer.max_steps": -1},
}


class ConfigError(ValueError):
    """A configuration that cannot be run; the message says what to type instead."""


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain data, without Hydra's own node."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.masked_copy(cfg, _own_keys(cfg)), resolve=True))


def check(cfg: DictConfig) -> None:
    """Refuses numbers that cannot be meant, before any work.

    Raises:
        ConfigError: names the key, what was expected and what was found.
    """
    for key, least in AT_LEAST.items():
        value = OmegaConf.select(cfg, key, default=least)  # data of the user's own need not say its seed
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{key} must be a whole number of at least {least}, found {value!r}: type {key}={least}")
    if cfg.trainer.max_steps == 0:
        raise ConfigError(
            "trainer.max_steps must be at least 1, or -1 for no limit, found 0: type trainer.max_steps=-1"
        )
    devices = cfg.trainer.devices
    if devices not in (1, "1") and not (OmegaConf.is_list(devices) and len(devices) == 1):
        raise ConfigError(f"a run trains on one device, found trainer.devices={devices}: type trainer.devices=1 or [3]")


def build(cfg: DictConfig) -> tuple[ImageData, VAEModule]:
    """Makes the data, then the model for its shape, and tells the data which pixels the decoder's head models.

    Raises:
        ConfigError: a number out of range, or pixels that the head does not model.
        DataError: data that is missing or damaged.
        hydra.errors.InstantiationException: a target that refuses its arguments.
    """
    check(cfg)
    data: ImageData = instantiate(
        cfg.data,
        data_dir=cfg.data_dir,
        batch_size=cfg.batch_size,
        batches_per_chunk=cfg.steps_per_call,
        shuffle_seed=cfg.seed,
    )
    with refusing("the model"):
        vae = build_vae(cfg, data)
    optimizer = instantiate(cfg.optimizer)
    with refusing("the optimizer"):
        optimizer(vae.parameters())  # made to fail here, if it does, and not when training begins
    module = VAEModule(
        vae,
        instantiate(cfg.objective),
        optimizer,
        instantiate(cfg.estimator),
        weight_prior=instantiate(cfg.get("weight_prior")),
        seed=cfg.seed,
        max_steps=cfg.trainer.max_steps,
    )
    return data, module


@contextmanager
def refusing(part: str) -> Iterator[None]:
    """Turns the errors of a class that was given the wrong arguments into a ConfigError that says where to look."""
    try:
        yield
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{error} (in the configuration of {part}; HYDRA_FULL_ERROR=1 shows where)") from error


def build_vae(cfg: DictConfig, data: ImageData) -> VAE:
    """The model for `data`, its weights drawn by `cfg.seed`; afterwards the data serves the pixels that it models."""
    seed_draws("cpu", "initialize", cfg.seed)
    parts = [instantiate(cfg[name]) for name in ("encoder", "decoder", "prior")]
    vae: VAE = instantiate(cfg.model)(data.event_shape, cfg.latent_dim, *parts)
    if cfg.get("initialization"):
        instantiate(cfg.initialization)(vae)
    head = vae.decoder.head
    if data.pixels not in (None, head.pixels):
        raise ConfigError(
            f"the decoder's head {type(head).__name__} models {head.pixels} pixels, data.pixels={data.pixels} asks for "
            f"others: type data.pixels=null, or choose a decoder of {data.pixels} pixels"
        )
    data.serve(head.pixels)
    vae.max_pixel = data.max_pixel
    check_support(vae, data)
    return vae


def check_support(vae: VAE, data: ImageData) -> None:
    """Draws a block of each split, and asks the decoder's likelihood whether it lies in its support; once.

    Raises:
        ConfigError: it does not; names both sides.
    """
    prior = vae.prior()
    support = vae.decode(prior.mean.unsqueeze(0)).support
    for split in data.split:
        for block in data.blocks(split):
            x = data.draw_block(split, block)
            if support is None or not support.check(x).all():
                raise ConfigError(
                    f"{data.name} serves {data.pixels} pixels between {x.min():g} and {x.max():g}, outside the support "
                    f"{support} of {type(vae.decoder.head).__name__}: choose another decoder, or correct its `pixels`"
                )
            break


def run_name(_root_: DictConfig) -> str:
    """Folder of a single run: `data-decoder-zLATENT-sSEED-HASH`, or `name-HASH`."""
    cfg, choices = _root_, _root_.hydra.runtime.choices
    prefix = cfg.name or f"{choices.data}-{choices.decoder}-z{cfg.latent_dim}-s{cfg.seed}"
    return f"{_safe(prefix)}-{identity(plain(cfg))}"


def job_name(_root_: DictConfig) -> str:
    """Folder of a job in a sweep: its overrides, readably, and the hash."""
    overrides = [o for o in _root_.hydra.overrides.task if not _is_control(o)]
    prefix = _root_.name or "-".join(_safe(o.lstrip("+~")) for o in overrides) or "default"
    return f"{_safe(prefix)[:100]}-{identity(plain(_root_))}"


def sweep_name(name: str | None, overrides: Sequence[str]) -> str:
    """Folder of a sweep: `sweep.name`, or one that follows from its definition: the same line finds it again."""
    if name:
        return _safe(name)
    scientific = sorted(o for o in overrides if not _is_control(o))
    swept = [o.lstrip("+").split("=")[0].split("/")[-1].split(".")[-1] for o in scientific if "," in o or "(" in o]
    return "-".join([_safe("-".join(swept))[:100], identity({"overrides": scientific})])


def register_resolvers() -> None:
    """Makes the names above available in `conf/`."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("job_name", job_name, replace=True)
    # cached, since a sweep's jobs see the overrides of their own
    OmegaConf.register_new_resolver("sweep_name", sweep_name, use_cache=True, replace=True)


def _own_keys(cfg: DictConfig) -> list[str]:
    return [str(key) for key in cfg if key != "hydra"]


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", str(text)).strip("._-") or "run"


def _is_control(override: str) -> bool:
    key = override.lstrip("+~").split("=")[0]
    return any(key == name or key.startswith(name + ".") for name in NOT_SCIENCE if name not in BUDGET)
