"""The one contract: a trunk and a head make a `Conditional`, two of them and a prior make a `VAE`. Plain PyTorch."""

from collections.abc import Callable, Sequence
from functools import partial

import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.heads import Head
from vaelab.networks import MLP, Chain, Trunk

Image = Float[Tensor, "*batch channels height width"]
Latent = Float[Tensor, "*batch latent_dim"]


class Conditional(nn.Module):
    """p(event | context): a trunk maps the context to features, a head maps features to a distribution.

    The encoder q(z|x) and the decoder p(x|z) are both of this class. `batch_shape` of the result is the context's
    leading dimensions, any number of them.

    Args:
        context_shape, event_shape: shapes of one context and of one event.
        trunk: makes a module with `out_features` from `context_shape`.
        head: makes a `vaelab.heads.Head` from `(in_features, event_shape)`.
    """

    def __init__(
        self,
        context_shape: Sequence[int],
        event_shape: Sequence[int],
        trunk: Callable[..., Trunk],
        head: Callable[..., Head],
    ) -> None:
        super().__init__()
        self.trunk = trunk(context_shape)
        self.head = head(self.trunk.out_features, event_shape)

    def forward(self, context: Tensor) -> td.Distribution:
        return self.head(self.trunk(context))

    def log_prob(self, event: Tensor, context: Tensor) -> Tensor:
        """log p(event | context) in nats, over the broadcast batch shape; in training the head sees the event too."""
        distribution = self(context)
        if self.training:
            self.head.observe(distribution, event)
        return distribution.log_prob(event)


class VAE(nn.Module):
    """p(z), p(x|z) and q(z|x): Kingma & Welling (2014).

    Args:
        encoder: q(z|x).
        decoder: p(x|z).
        prior: p(z), a module whose forward takes nothing.
        max_pixel: the largest value of a pixel as the decoder models it (1, or `num_levels - 1`); the encoder sees
            x / max_pixel, so that its input lies in [0, 1] whatever the likelihood.
    """

    def __init__(self, encoder: Conditional, decoder: Conditional, prior: nn.Module, max_pixel: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.max_pixel = max_pixel

    @property
    def latent_dim(self) -> int:
        """Dimensions of z."""
        return self.prior().event_shape[0]

    def encode(self, x: Image) -> td.Distribution:
        """q(z|x)."""
        return self.encoder(x if self.max_pixel == 1 else x / self.max_pixel)

    def decode(self, z: Latent) -> td.Distribution:
        """p(x|z)."""
        return self.decoder(z)

    def sample(self, num_samples: int) -> Image:
        """Draws x ~ p(x): z from the prior, then x from p(x|z); `[num_samples, *event_shape]`."""
        return self.decode(self.prior().sample((num_samples,))).sample()

    def reconstruct(self, x: Image) -> Image:
        """The mean of p(x|z) at the mean of q(z|x)."""
        return self.decode(self.encode(x).mean).mean

    def log_joint(self, x: Image, z: Float[Tensor, "*samples latent_dim"]) -> Float[Tensor, "*samples"]:
        """log p(x, z) = log p(x|z) + log p(z), in nats; `samples` may have more leading dimensions than x has."""
        return self.decoder.log_prob(x, z) + self.prior().log_prob(z)


def make_vae(
    event_shape: Sequence[int],
    latent_dim: int,
    encoder: Callable[..., Conditional],
    decoder: Callable[..., Conditional],
    prior: Callable[..., nn.Module],
) -> VAE:
    """A VAE whose encoder and decoder have parameters of their own, as in the paper."""
    return VAE(encoder(event_shape, (latent_dim,)), decoder((latent_dim,), event_shape), prior((latent_dim,)))


def make_shared_vae(
    event_shape: Sequence[int],
    latent_dim: int,
    encoder: partial[Conditional],
    decoder: partial[Conditional],
    prior: Callable[..., nn.Module],
    activation: str = "tanh",
) -> VAE:
    """A VAE whose encoder and decoder share a hidden layer: context -> own trunk -> *shared layer* -> own head.

    Both trunks end in the very same module, so its gradient is the sum of both uses.

    Raises:
        ValueError: the trunks end in different numbers of features.
    """
    own = {part: part.keywords["trunk"](shape) for part, shape in ((encoder, event_shape), (decoder, (latent_dim,)))}
    width, other = (trunk.out_features for trunk in own.values())
    if width != other:
        raise ValueError(f"model=shared needs trunks that end alike, found {width} features (encoder) and {other}")
    shared = MLP((width,), width, activation)
    return make_vae(
        event_shape,
        latent_dim,
        partial(encoder, trunk=lambda shape: Chain(own[encoder], shared)),
        partial(decoder, trunk=lambda shape: Chain(own[decoder], shared)),
        prior,
    )
