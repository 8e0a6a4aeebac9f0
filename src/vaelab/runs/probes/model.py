"""Probe the networks, the heads and the prior of a model."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.distributions import different_domains, domain
from vaelab.errors import ConfigError
from vaelab.heads import Head
from vaelab.networks import Network
from vaelab.pixels import MEASURES
from vaelab.priors import Prior
from vaelab.runs.own_code import is_own, name_of
from vaelab.runs.probes.calls import (
    EXAMPLES,
    check_kind,
    check_tensor,
    probed,
    refuse_result,
    same,
    untouched,
    worth_probing,
)
from vaelab.vae import VAE, Conditional, MakeNetwork

DRAWS = (11,)  # of z for each example, as objectives and estimators with several samples decode them
Shape = tuple[int, ...]


def probing(make: MakeNetwork, key: str, draws: Shape = ()) -> MakeNetwork:
    """Return `make`, whose networks are probed before a head asks them for its layers.

    Args:
        make: makes a network from the shapes of a context and an event.
        key: names the network in the configuration.
        draws: the dimensions of contexts before those of a batch.
    """

    def made(context_shape: Sequence[int], event_shape: Sequence[int]) -> Network:
        network = make(context_shape, event_shape)
        check_kind(key, network, Network)
        found, given = (network.context_shape, network.event_shape), (tuple(context_shape), tuple(event_shape))
        if found != given:
            raise ConfigError(
                f"{name_of(network)} has the context_shape {found[0]} and the event_shape {found[1]}, expected "
                f"{given[0]} and {given[1]}: type super().__init__(context_shape, event_shape, features_shape)"
            )
        if worth_probing(network):
            with untouched(network), torch.no_grad():
                check_network(network.eval(), torch.rand(*draws, EXAMPLES, *context_shape), draws)
            network.train()
        return network

    return made


def check_network(network: Network, context: Tensor, draws: Shape) -> None:
    """Refuse a network whose features or layers have a wrong shape, and one that mixes examples."""
    shape, leading = network.features_shape, (*draws, EXAMPLES)
    if len(shape) not in (1, 3):
        raise ConfigError(f"{name_of(network)} has the features_shape {shape}, expected (F,) or (F, H, W)")
    features = probed(network, network, context)
    contexts = f"from contexts {tuple(context.shape)}: features have features_shape after any leading dimensions"
    check_tensor(network, "forward", features, (*leading, *shape), contexts)
    alone = [probed(network, network, one) for one in context.split(1, len(draws))]
    if not same(features, torch.cat(alone, len(draws))):
        raise ConfigError(
            f"{name_of(network)}.forward returned other features of an example in a batch than alone: expected "
            "features that depend on one example, and on no noise"
        )
    if type(network).output_layer is not Network.output_layer:
        event = network.event_shape
        wanted = {("element",): event, ("element", 4): (*event, 4), ("vector", 4): (4,)}
        for arguments, of_event in wanted.items():
            method = f"output_layer{arguments}"
            layer = probed(network, network.output_layer, *arguments, method=method)
            numbers = probed(network, layer, features, method=f"{method}(features)")
            check_tensor(network, f"{method}(features)", numbers, (*leading, *of_event))


def check_model(vae: VAE) -> None:
    """Refuse a model whose heads or prior return anything but the distributions that are expected of them."""
    check_declared(vae.decoder.head)
    with untouched(vae), torch.no_grad(), vae.mode(training=False):
        if not worth_probing(vae):
            check_domains(vae, vae.encode(vae.blank()), vae.latent_prior())
            return
        q = check_conditional(vae.encoder, torch.rand(EXAMPLES, *vae.decoder.head.event_shape))
        p = check_prior(vae.prior, vae.encoder)
        check_domains(vae, q, p)
        head, z = vae.encoder.head, p.sample(torch.Size((*DRAWS, EXAMPLES)))
        decoded = check_conditional(vae.decoder, probed(head, head.as_context, z, method="as_context"), DRAWS)
        if domain(decoded) is None:
            refuse_result(
                vae.decoder.head, "forward", decoded, "one with a support", "give its class the property support"
            )


def check_declared(head: Head) -> None:
    """Refuse a decoder's head whose pixels or measure are missing, unknown, or do not suit each other."""
    pixels, measure = getattr(head, "pixels", None), getattr(head, "measure", None)
    if pixels not in MEASURES:
        found, expected = f"pixels={pixels!r}", f"pixels to be one of {', '.join(map(repr, MEASURES))}"
    elif measure != MEASURES[pixels]:
        found, expected = f"measure={measure!r}", f"measure={MEASURES[pixels]!r} for pixels={pixels!r}"
    else:
        return
    raise ConfigError(f"{name_of(head)} declares {found}: expected {expected}; set them in the class")


def check_conditional(conditional: Conditional, context: Tensor, draws: Shape = ()) -> td.Distribution:
    """Return the distribution of a conditional, or refuse what its head returns."""
    head, axis = conditional.head, len(draws)
    features = probed(conditional.network, conditional.network, context)
    p = probed(head, head, features)
    event, log_prob = check_distribution(head, p, (*draws, EXAMPLES), head.event_shape, "self.independent")
    ones = zip(features.split(1, axis), event.split(1, axis), strict=True)
    if not same(log_prob, torch.cat([head(own).log_prob(one) for own, one in ones], axis)):
        raise ConfigError(
            f"{name_of(head)}.forward returned another distribution of an example in a batch than alone: expected one "
            "that depends on the features of one example"
        )
    return p


def check_prior(prior: Prior, encode: Conditional) -> td.Distribution:
    """Return p(z), or refuse what a prior returns, and a prior that keeps the encoder."""
    p = probed(prior, prior, encode)
    check_distribution(prior, p, (), prior.latent_shape, "td.Independent")
    of_encoder = {id(parameter) for parameter in encode.parameters()}
    if kept := [name for name, parameter in prior.named_parameters() if id(parameter) in of_encoder]:
        raise ConfigError(f"{name_of(prior)} keeps {kept[0]} of the encoder: call the encoder, but do not store it")
    return p


def check_domains(vae: VAE, q: td.Distribution, p: td.Distribution) -> None:
    """Refuse an encoder and a prior whose z range over different sets, such as discrete and real numbers."""
    if found := different_domains(q, p):
        one, other = (
            f"{elements} of {name_of(part)}" if is_own(part) else str(elements)
            for elements, part in zip(found, (vae.encoder.head, vae.prior), strict=True)
        )
        raise ConfigError(
            f"expected q(z|x) and p(z) over one set, found {one} and {other}: type prior=bernoulli "
            "only with encoder=relaxed_bernoulli, and prior=categorical only with encoder=relaxed_categorical"
        )


def check_distribution(part: Any, p: Any, batch: Shape, event: Shape, join: str) -> tuple[Tensor, Tensor]:
    """Return a draw from p and its log-probability. Refuse what is no distribution of these shapes.

    Args:
        part: returned p.
        batch, event: the expected shapes of p.
        join: what makes one event of independent elements.
    """
    expected = f"a distribution with event_shape {event} and batch_shape {batch}"
    if not isinstance(p, td.Distribution):
        refuse_result(part, "forward", p, expected, f"return one, such as {join}(...)")
    if (p.batch_shape, p.event_shape) != (batch, event):
        elements = (*p.batch_shape, *p.event_shape) == (*batch, *event)
        refuse_result(part, "forward", p, expected, f"type {join}(...)" if elements else "")
    draw = probed(part, p.sample, method="forward(...).sample")
    check_tensor(part, "forward(...).sample", draw, (*batch, *event))
    log_prob = probed(part, p.log_prob, draw, method="forward(...).log_prob")
    check_tensor(part, "forward(...).log_prob", log_prob, batch, "sum over the event alone")
    return draw, log_prob
