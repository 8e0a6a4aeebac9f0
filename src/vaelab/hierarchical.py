"""A VAE with several stochastic layers, z = (h_1, ..., h_L)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.distributions as td
from torch import Tensor, nn

from vaelab.distributions import Ancestral
from vaelab.errors import whole_numbers
from vaelab.heads import DiagonalGaussian, Head, PerPixelScale
from vaelab.heads.base import Features
from vaelab.networks import Chain, Network
from vaelab.priors import Prior
from vaelab.priors.base import Encode
from vaelab.priors.learned import MIN_SCALE
from vaelab.vae import VAE, Conditional, MakeNetwork, Shape


def make_hierarchical_vae(
    event_shape: Shape,
    latent_dim: int,
    encoder: Callable[..., Conditional],
    decoder: Callable[..., Conditional],
    prior: Callable[[Shape, Shape], Prior],
    encoder_network: MakeNetwork,
    decoder_network: MakeNetwork,
    upper_dims: int | Sequence[int],
    network: MakeNetwork,
) -> VAE:
    """Make a VAE with several stochastic layers: Burda, Grosse & Salakhutdinov (2016), section 5, have two.

    `q(z|x) = q(h_1|x) q(h_2|h_1) ... q(h_L|h_(L-1))`, `p(x, z) = p(h_L) p(h_(L-1)|h_L) ... p(h_1|h_2) p(x|h_1)`. To all
    else, z is one vector, the layers one after another. Its KL is estimated from samples, and q(z|x) has no mean.

    Args:
        event_shape: shape of one x.
        latent_dim: number of dimensions of h_1.
        encoder: makes q(h_1|x), and each q(h_l|h_(l-1)), as in `make_vae`.
        decoder: makes p(x|h_1).
        prior: makes p(h_L). It may not call the encoder.
        encoder_network, decoder_network: make the networks between x and h_1.
        upper_dims: numbers of dimensions of h_2, ..., h_L.
        network: makes the networks between two layers. Each p(h_l|h_(l+1)) is a diagonal Gaussian.

    Raises:
        ValueError: `upper_dims` is empty or has an entry below 1, the latent is discrete, or the prior calls the
            encoder.
    """
    sizes = [latent_dim, *whole_numbers("model.upper_dims", upper_dims)]
    gaussian = partial(DiagonalGaussian, scale=partial(PerPixelScale, min_scale=MIN_SCALE))
    first = encoder(event_shape, (latent_dim,), network=encoder_network)
    if first.head.discrete:
        raise ValueError(
            f"model=hierarchical expects layers of real numbers, found {type(first.head).__name__}: "
            "type encoder=gaussian"
        )
    above = [encoder((lower,), (upper,), network=network) for lower, upper in pairwise(sizes)]
    below = [Conditional((upper,), (lower,), network, gaussian) for lower, upper in pairwise(sizes)]

    def from_first_layer(context_shape: Shape, event_shape: Shape) -> Network:
        return Chain(FirstLayer(context_shape, event_shape, latent_dim), decoder_network((latent_dim,), event_shape))

    z = (sum(sizes),)
    return VAE(
        Conditional(event_shape, z, lambda *_: first.network, partial(BottomUp, first=first.head, above=above)),
        decoder(z, event_shape, network=from_first_layer),
        TopDown(prior((sizes[-1],), event_shape), below[::-1], sizes[::-1]),
    )


class FirstLayer(Network):
    """The network that keeps h_1, the first `size` dimensions of z."""

    def __init__(self, context_shape: Shape, event_shape: Shape, size: int) -> None:
        super().__init__(context_shape, event_shape, (size,))

    def forward(self, context: Tensor) -> Tensor:
        return context[..., : self.features_shape[0]]


class BottomUp(Head):
    """The head of `q(z|x) = q(h_1|x) q(h_2|h_1) ...`.

    Args:
        network: the network before the head of q(h_1|x).
        first: that head.
        above: the conditionals q(h_2|h_1), q(h_3|h_2), ...
    """

    def __init__(self, network: Network, first: Head, above: Sequence[Conditional]) -> None:
        super().__init__(network)
        self.first, self.above = first, nn.ModuleList(above)
        self.sizes = [part.event_shape[0] for part in (first, *(conditional.head for conditional in above))]
        self.event_shape = (sum(self.sizes),)

    def forward(self, features: Features) -> td.Distribution:
        return Ancestral(self.first(features), [*self.above], self.sizes)

    def monitors(self) -> dict[str, Tensor]:
        heads = [self.first, *(conditional.head for conditional in self.above)]
        return {f"{name}_{i}": value for i, head in enumerate(heads, 1) for name, value in head.monitors().items()}


class TopDown(Prior):
    """The prior `p(z) = p(h_L) p(h_(L-1)|h_L) ... p(h_1|h_2)`.

    Args:
        top: p(h_L).
        below: the conditionals p(h_(L-1)|h_L), ..., p(h_1|h_2).
        sizes: numbers of dimensions of h_L, ..., h_1.

    Raises:
        ValueError: the top calls the encoder, which does not give h_L.
    """

    def __init__(self, top: Prior, below: Sequence[Conditional], sizes: Sequence[int]) -> None:
        super().__init__((sum(sizes),), top.event_shape)
        self.top, self.below, self.sizes = top, nn.ModuleList(below), list(sizes)
        with torch.no_grad():
            self(_no_encoder)

    def forward(self, encode: Encode) -> td.Distribution:
        return Ancestral(self.top(_no_encoder), [*self.below], self.sizes, reverse=True)


def _no_encoder(x: Tensor) -> td.Distribution:
    raise ValueError(
        "model=hierarchical expects a prior of its top layer alone, found one that calls the encoder of x, as "
        "VampPrior does: type prior=standard_normal"
    )
