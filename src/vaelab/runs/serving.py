"""Build a model for the data at hand, make the data serve the pixels that it models, and check that they suit it."""

import logging
from functools import partial
from math import prod
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from vaelab.data import ImageData
from vaelab.data.batches import Block
from vaelab.errors import ConfigError
from vaelab.estimators import refused
from vaelab.heads import OverLevels
from vaelab.randomness import seed_draws
from vaelab.runs.model import model_for
from vaelab.runs.validate import refusing
from vaelab.vae import VAE

log = logging.getLogger(__name__)

MANY = 2**26  # elements that an initialization gets at most: 256 MiB, more than MNIST has


def build_vae(cfg: DictConfig, data: ImageData) -> VAE:
    """Build the model for `data`, with weights seeded by `cfg.seed`. Make the data serve the pixels that it models.

    An initialization that has loaded all weights returns True, and then the prior does not begin at training data.
    """
    seed_draws("cpu", "initialize", cfg.seed)
    vae = model_for(cfg, data.event_shape)
    serve_pixels(data, vae)
    loaded = None
    if cfg.get("initialization"):
        loaded = instantiate(cfg.initialization)(vae, partial(first_training_examples, data))
    if not loaded:
        vae.prior.initialize(lambda count: vae.scaled(data.draw_some(count)))
    check_support(vae, data)
    return vae


def first_training_examples(data: ImageData) -> Tensor:
    """Draw the first training examples, at most `MANY` elements; leave the global random generator as it was."""
    with torch.random.fork_rng(devices=[]):
        count = min(data.num_train, MANY // prod(data.event_shape))
        return data.draw_block("train", Block(0, torch.arange(count)))


def serve_pixels(data: ImageData, vae: VAE) -> None:
    """Make the data serve the pixels that the decoder's head models; make the encoder scale them to [0, 1]."""
    head = vae.decoder.head
    if data.pixels not in (None, head.pixels):
        raise ConfigError(
            f"the decoder's head {type(head).__name__} needs pixels={head.pixels}, found data.pixels={data.pixels}: "
            f"type data.pixels=null, or choose a decoder of {data.pixels} pixels"
        )
    if head.pixels != "binary" and data.binarize != "dynamic":
        log.warning("data.binarize=%s has no effect: the decoder has pixels=%s", data.binarize, head.pixels)
    data.serve(head.pixels)
    if head.pixels == "levels" and (num_levels := getattr(head, "num_levels", data.num_levels)) != data.num_levels:
        raise ConfigError(
            f"{type(head).__name__} models {num_levels} levels, but pixels of {data.name} have {data.num_levels}: "
            f"type decoder.head.num_levels={data.num_levels}"
        )
    vae.max_pixel = data.max_pixel


def check_support(vae: VAE, data: ImageData) -> None:
    """Draw one block of each split, and refuse data outside the support of the decoder's likelihood."""
    with vae.mode(training=False):
        support: Any = vae.decode(vae.latent_prior().sample((1,))).support
    for split in data.split:
        x = data.draw_block(split, next(iter(data.blocks(split))))
        if not support.check(x).all():
            raise ConfigError(
                f"{data.name} serves {data.pixels} pixels between {x.min():g} and {x.max():g}, outside the support "
                f"{support} of {type(vae.decoder.head).__name__}: choose another decoder, or correct its head's pixels"
            )


def scored_as_mass(vae: VAE, data: ImageData) -> None:
    """Turn the decoder's density over unit pixels into a mass over grey levels. Make the data serve levels.

    Load the weights first, because wrapping the head in `OverLevels` renames its parameters. Afterwards the encoder
    sees level / (num_levels - 1), without the noise of dequantising, and the ELBO bounds the mass of the levels.
    """
    vae.decoder.head = over_levels(vae, data)
    data.serve(vae.decoder.head.pixels)
    vae.max_pixel = data.max_pixel


def not_advised(vae: VAE, data: ImageData) -> set[str]:
    """Return the names of the estimators that do not work for this model, and `mass` if its pixels have no masses."""
    try:
        over_levels(vae, data)
    except ConfigError:
        return refused(vae) | {"mass"}
    return refused(vae)


def over_levels(vae: VAE, data: ImageData) -> OverLevels:
    """Return the decoder's head as a mass over grey levels. Refuse a head that has no such mass, with a ConfigError."""
    head = vae.decoder.head
    if head.pixels != "unit":
        reason = "have no levels" if head.pixels == "binary" else "are scored as a mass already"
        raise ConfigError(
            f"measure=mass needs a decoder of unit pixels, found {type(head).__name__}, whose {head.pixels} pixels "
            f"{reason}: leave out measure=mass"
        )
    with refusing("the decoder"), torch.no_grad():
        found = OverLevels(head, data.num_levels).train(head.training)
        z = vae.latent_prior().sample((1,))
        # try the head now, so that a wrong head is refused before the evaluation
        found(vae.decoder.network(z)).log_prob(z.new_zeros(data.event_shape))
    return found
