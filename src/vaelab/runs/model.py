"""Build the model that a configuration describes, and check that the data suit it."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vaelab.data import ImageData
from vaelab.data.pixels import MEASURES
from vaelab.errors import ConfigError
from vaelab.heads import Head, OverLevels
from vaelab.networks import Network
from vaelab.objectives import Objective
from vaelab.priors import Prior
from vaelab.randomness import seed_draws
from vaelab.runs.validate import refusing
from vaelab.vae import VAE

log = logging.getLogger(__name__)


def build_objective(node: Mapping[str, Any], num_processes: int, vae: VAE) -> Objective:
    """Build the objective of a model.

    Refuse parameters in it, a model that it cannot train, and several processes if it couples the examples of a
    minibatch.
    """
    with refusing("the objective"):
        objective = instantiate(node)
    check_kind("objective", objective, Objective)
    if names := [name for name, _ in objective.named_parameters()]:
        raise ConfigError(
            f"{type(objective).__name__} has the parameter {names[0]}, which no optimiser updates: make it a buffer"
        )
    if objective.couples_batch and num_processes > 1:
        raise ConfigError(
            f"{type(objective).__name__} couples the examples of a minibatch, so it needs one process: type devices=1"
        )
    if reason := objective.refusal(vae):
        raise ConfigError(f"{type(objective).__name__} {reason}")
    return objective


def build_weight_prior(node: Mapping[str, Any] | None) -> nn.Module | None:
    """Build the prior on the weights, if any. Refuse tensors in it, because an evaluation does not load them."""
    with refusing("the weight_prior"):
        prior = instantiate(node)
    if prior is None:
        return None
    check_kind("weight_prior", prior, nn.Module)
    if names := [*dict(prior.named_parameters()), *dict(prior.named_buffers())]:
        raise ConfigError(
            f"weight_prior must hold plain numbers, found the tensor {names[0]} in {type(prior).__name__}: "
            "replace it with a number"
        )
    return prior


def check_kind(key: str, found: object, expected: type) -> None:
    """Refuse an object that is not an instance of `expected`; `key` names the object in the configuration."""
    if not isinstance(found, expected):
        raise ConfigError(f"{key}._target_ gives a {type(found).__name__}, expected an instance of {expected.__name__}")


def model_for(cfg: DictConfig, event_shape: Sequence[int]) -> VAE:
    """Build the model for events of this shape. Refuse parts of the wrong class."""
    parts = [instantiate(part_without_network(cfg[name])) for name in ("encoder", "decoder")]
    networks = [instantiate(cfg[name].get("network") or cfg.network) for name in ("encoder", "decoder")]
    vae = instantiate(cfg.model)(event_shape, cfg.latent_dim, *parts, instantiate(cfg.prior), *networks)
    check_kind("prior", vae.prior, Prior)
    for name in ("encoder", "decoder"):
        part = getattr(vae, name)
        check_kind(f"{name}.network", part.network, Network)
        check_kind(f"{name}.head", part.head, Head)
    head = vae.decoder.head
    if missing := [name for name in ("pixels", "measure") if not hasattr(head, name)]:
        raise ConfigError(
            f"{type(head).__name__} does not declare its {missing[0]}: add a class attribute {missing[0]}"
        )
    return vae


def part_without_network(part: DictConfig) -> DictConfig:
    """Return an encoder's or decoder's node without its network, which is a separate argument of the model."""
    return OmegaConf.masked_copy(part, [str(key) for key in part if key != "network"])


def build_vae(cfg: DictConfig, data: ImageData) -> VAE:
    """Build the model for `data`, with weights seeded by `cfg.seed`. Make the data serve the pixels that it models."""
    seed_draws("cpu", "initialize", cfg.seed)
    vae = model_for(cfg, data.event_shape)
    serve_pixels(data, vae)
    if cfg.get("initialization"):
        with torch.random.fork_rng(devices=[]):
            x = data.draw_block("train", next(iter(data.blocks("train"))))
        instantiate(cfg.initialization)(vae, x)
    check_support(vae, data)
    return vae


def serve_pixels(data: ImageData, vae: VAE) -> None:
    """Make the data serve the pixels that the decoder's head models; make the encoder scale them to [0, 1]."""
    head = vae.decoder.head
    if data.pixels not in (None, head.pixels):
        raise ConfigError(
            f"the decoder's head {type(head).__name__} needs {head.pixels} pixels, found data.pixels={data.pixels}: "
            f"type data.pixels=null, or choose a decoder of {data.pixels} pixels"
        )
    if head.pixels != "binary" and data.binarize != "dynamic":
        log.warning("data.binarize=%s has no effect: the decoder models %s pixels", data.binarize, head.pixels)
    data.serve(head.pixels)
    if head.measure != MEASURES[head.pixels]:
        raise ConfigError(
            f"{type(head).__name__} declares pixels={head.pixels} and measure={head.measure}, expected "
            f"measure={MEASURES[head.pixels]} for these pixels: correct one of the two"
        )
    vae.max_pixel = data.max_pixel


def check_support(vae: VAE, data: ImageData) -> None:
    """Draw one block of each split, and refuse data outside the support of the decoder's likelihood."""
    support = vae.eval().decode(vae.latent_prior().sample((1,))).support
    vae.train()
    for split in data.split:
        x = data.draw_block(split, next(iter(data.blocks(split))))
        if support is None or not support.check(x).all():
            raise ConfigError(
                f"{data.name} serves {data.pixels} pixels between {x.min():g} and {x.max():g}, outside the support "
                f"{support} of {type(vae.decoder.head).__name__}: choose another decoder, or correct its head's pixels"
            )


def scored_as_mass(vae: VAE, data: ImageData) -> None:
    """Turn the decoder's density over unit pixels into a mass over grey levels. Make the data serve levels.

    Load the weights first, because wrapping the head in `OverLevels` renames its parameters. Afterwards the encoder
    sees level / (num_levels - 1), without the noise of dequantising, and the ELBO bounds the mass of the levels.
    """
    head = vae.decoder.head
    if head.pixels != "unit":
        reason = "have no levels" if head.pixels == "binary" else "are scored as a mass already"
        raise ConfigError(
            f"measure=mass needs a decoder of unit pixels, found {type(head).__name__}, whose {head.pixels} pixels "
            f"{reason}: leave out measure=mass"
        )
    with refusing("the decoder"), torch.no_grad():
        over_levels = OverLevels(head, data.num_levels).train(head.training)
        z = vae.latent_prior().sample((1,))
        # try the head now, so that a wrong head is refused before the evaluation
        over_levels(vae.decoder.network(z)).log_prob(z.new_zeros(data.event_shape))
    vae.decoder.head = over_levels
    data.serve(over_levels.pixels)
    vae.max_pixel = data.max_pixel
