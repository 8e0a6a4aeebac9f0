"""Build the parts of a model and of its objective, without Lightning and without data."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vaelab.errors import ConfigError
from vaelab.estimators import BY_NAME, Estimator, Several, refused
from vaelab.heads import Head
from vaelab.objectives import Objective
from vaelab.pixels import check_pixels
from vaelab.priors import Prior
from vaelab.runs.configuration import num_levels
from vaelab.runs.own_code import is_own, name_of
from vaelab.runs.probes.calls import check_kind, probed, untouched
from vaelab.runs.probes.model import DRAWS, check_model, probing
from vaelab.runs.probes.training import check_estimate, check_objective
from vaelab.runs.validate import processes_of, refusing
from vaelab.security.allow_list import entries
from vaelab.vae import VAE, Conditional

SMALL = (1, 8, 8)  # the shape of an image that suits every class of vaelab's alone


def check_parts(cfg: DictConfig) -> None:
    """Refuse wrong arguments of vaelab's own classes, and a decoder of pixels that vaelab's own data do not have.

    The parts are built for a small image, before the data are loaded or downloaded. A user's own part may need another
    shape, and so may `model=shared`, whose networks must agree; these are checked only when the run is built.
    """
    if is_ours(cfg, "weight_prior"):
        build_weight_prior(cfg.get("weight_prior"))
    shared = cfg.model.get("_target_") == "vaelab.vae.make_shared_vae"
    if not shared and is_ours(cfg, "model", "network", "encoder", "decoder", "prior"):
        with refusing("the model"):
            vae = model_for(cfg, SMALL)
        if is_ours(cfg, "objective"):
            build_objective(cfg.objective, processes_of(cfg.runtime), vae)
        if is_ours(cfg, "estimator"):
            check_estimator(instantiate(cfg.estimator), vae)
        if is_ours(cfg, "data"):  # last, because its class, which declares the number of levels, imports Lightning
            check_pixels(vae.decoder.head.pixels, cfg.data._target_.rpartition(".")[2], num_levels(cfg))


def is_ours(cfg: DictConfig, *parts: str) -> bool:
    """Return whether these parts of a configuration name classes of vaelab only."""
    nodes = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(parts)))
    return all(str(value).startswith("vaelab.") for _, key, value in entries(nodes) if key == "_target_")


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
    with untouched(vae), torch.no_grad(), vae.mode(training=True):
        q = probed(vae.encoder, vae.encode, vae.blank())
    with torch.no_grad(), vae.mode(training=False):
        reason = probed(objective, objective.refusal, vae, method="refusal")
    if objective.follows_samples and not q.has_rsample:
        reason = "needs samples of q(z|x) that carry a gradient: type encoder=gaussian, or objective=rws"
        if is_own(vae.encoder.head):
            reason += f", or have {name_of(vae.encoder.head)}.forward return a distribution with rsample"
    if reason:
        raise ConfigError(f"{type(objective).__name__} {reason}")
    check_objective(objective, vae)
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


def model_for(cfg: DictConfig, event_shape: Sequence[int]) -> VAE:
    """Build the model for events of this shape. Refuse parts of the wrong class, or that break their contract."""
    parts, networks = [], []
    for name, draws in (("encoder", ()), ("decoder", DRAWS)):
        parts.append(instantiate(part_without_network(cfg[name])))
        key = f"{name}.network" if cfg[name].get("network") else "network"
        networks.append(probing(instantiate(OmegaConf.select(cfg, key)), key, draws))
    vae = instantiate(cfg.model)(event_shape, cfg.latent_dim, *parts, instantiate(cfg.prior), *networks)
    check_kind("model", vae, VAE)
    check_kind("prior", vae.prior, Prior)
    for name in ("encoder", "decoder"):
        check_kind(name, getattr(vae, name), Conditional)
        check_kind(f"{name}.head", getattr(vae, name).head, Head)
    check_model(vae)
    return vae


def part_without_network(part: DictConfig) -> DictConfig:
    """Return an encoder's or decoder's node without its network, which is a separate argument of the model.

    The node is resolved, because `${...}` in it may refer to other nodes of the configuration.
    """
    resolved = cast(dict[str, Any], OmegaConf.to_container(part, resolve=True))
    return OmegaConf.create({key: value for key, value in resolved.items() if key != "network"})


def check_estimator(estimator: Any, vae: VAE) -> None:
    """Refuse an object that is not an estimator, and an estimator that does not work for this model."""
    if not isinstance(estimator, Several | Estimator):
        raise ConfigError(
            f"estimator._target_ names {type(estimator).__name__}, expected a class with the members of "
            "vaelab.estimators.Estimator: name, label, unbiased, part_size, refusal(vae) and __call__(vae, x)"
        )
    several = list(estimator.estimators.values()) if isinstance(estimator, Several) else [estimator]
    refusals = [probed(one, one.refusal, vae, method="refusal") for one in several]
    if all(refusals):
        others = " or ".join(sorted(BY_NAME.keys() - refused(vae)))
        raise ConfigError(f"estimator={estimator.name}: {refusals[0]}: type estimator={others}")
    for one, reason in zip(several, refusals, strict=True):
        if reason is None and is_own(one):
            check_estimate(one, vae)
