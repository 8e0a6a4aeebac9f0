"""A network and a head make a `Conditional`; an encoder, a decoder and a prior make a `VAE`. Plain PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.distributions import mean_or_sample
from vaelab.heads import Head
from vaelab.networks import MLP, Chain, Network
from vaelab.priors import Prior

Image = Float[Tensor, "*batch channels height width"]
Latent = Float[Tensor, "*batch latent_dim"]
Shape = Sequence[int]
MakeNetwork = Callable[[Shape, Shape], Network]


class Conditional(nn.Module):
    """p(event | context): a network maps the context to features, and a head maps the features to a distribution.

    The encoder q(z|x) and the decoder p(x|z) are both of this class. The context may have any number of leading
    dimensions; they are the `batch_shape` of the distribution.

    Args:
        context_shape, event_shape: shapes of one context and of one event.
        network: makes the `vaelab.networks.Network` from both shapes.
        head: makes the `vaelab.heads.Head` from the network.

    Attributes:
        reduced: the dtype in which the network multiplies matrices during training, such as `torch.bfloat16`; None for
            the dtype of its weights. The head never computes in it: a distribution in bfloat16 has a wrong KL, and
            samples that do not fit their densities.

    Examples:
        >>> import torch
        >>> from vaelab.heads import Bernoulli
        >>> decoder = Conditional((2,), (1, 28, 28), MLP, Bernoulli)
        >>> decoder(torch.zeros(5, 2)).event_shape
        torch.Size([1, 28, 28])
    """

    def __init__(
        self, context_shape: Shape, event_shape: Shape, network: MakeNetwork, head: Callable[[Network], Head]
    ) -> None:
        super().__init__()
        self.network = network(context_shape, event_shape)
        self.head = head(self.network)
        self.reduced: torch.dtype | None = None

    def forward(self, context: Tensor) -> td.Distribution:
        return self.head(self.features(context))

    def features(self, context: Tensor) -> Tensor:
        """Return the features from which the head makes the distribution."""
        if self.reduced is None or not self.training:
            return self.network(context)
        # no cache, because it would keep copies of weights that the optimiser has changed since
        with torch.autocast(context.device.type, self.reduced, cache_enabled=False):
            features = self.network(context)
        return features.to(context.dtype)

    def log_prob(self, event: Tensor, context: Tensor) -> Tensor:
        """Return log p(event | context) in nats, over the broadcast batch shape. In training, call `head.observe`."""
        distribution = self(context)
        if self.training:
            self.head.observe(distribution, event)
        return distribution.log_prob(event)


class VAE(nn.Module):
    """A variational auto-encoder: p(z), p(x|z) and q(z|x), Kingma & Welling (2014).

    Args:
        encoder: q(z|x).
        decoder: p(x|z).
        prior: p(z).
        max_pixel: the largest value of a pixel as the decoder models it: 1, or `num_levels - 1`. The encoder gets
            x / max_pixel, so that its input lies in [0, 1] whatever the likelihood.

    Raises:
        ValueError: a part normalises over the batch, so that the bound of an example would depend on the others.

    Examples:
        >>> from vaelab.heads import Bernoulli, DiagonalGaussian
        >>> from vaelab.priors import StandardNormal
        >>> encoder = Conditional((1, 28, 28), (2,), MLP, DiagonalGaussian)
        >>> decoder = Conditional((2,), (1, 28, 28), MLP, Bernoulli)
        >>> vae = VAE(encoder, decoder, StandardNormal((2,), (1, 28, 28)))
        >>> vae.sample(3).shape
        torch.Size([3, 1, 28, 28])
    """

    def __init__(self, encoder: Conditional, decoder: Conditional, prior: Prior, max_pixel: float = 1.0) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        self.max_pixel = max_pixel
        self._fixed_prior: td.Distribution | None = None
        for name, module in self.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"a VAE expects parts that treat each example alone, found {type(module).__name__} at {name}, "
                    "which makes the bound of an example depend on its minibatch: choose LayerNorm or GroupNorm"
                )

    @property
    def latent_dim(self) -> int:
        """Number of dimensions of z."""
        return self.prior.latent_shape[0]

    def encode(self, x: Image) -> td.Distribution:
        """Return q(z|x)."""
        return self.encoder(self.scaled(x))

    def blank(self) -> Image:
        """Return a batch of one image that is all zeros."""
        parameter = next(self.parameters())
        return parameter.new_zeros(1, *self.decoder.head.event_shape)

    def scaled(self, x: Image) -> Image:
        """Return x in [0, 1], as the encoder gets it."""
        return x if self.max_pixel == 1 else x / self.max_pixel

    def decode(self, z: Latent) -> td.Distribution:
        """Return p(x|z)."""
        return self.decoder(self.encoder.head.as_context(z))

    def log_likelihood(self, x: Image, z: Float[Tensor, "*samples latent_dim"]) -> Tensor:
        """Return log p(x|z) in nats, over the broadcast batch shape. In training, the decoder's head observes x."""
        return self.decoder.log_prob(x, self.encoder.head.as_context(z))

    def latent_prior(self) -> td.Distribution:
        """Return p(z). The prior may call the encoder."""
        return self.prior(self.encoder) if self._fixed_prior is None else self._fixed_prior

    @contextmanager
    def fixed_prior(self, prior: td.Distribution | None = None) -> Iterator[None]:
        """Compute p(z) once for the `with` block, or use `prior` in it. Do not change any weight within the block."""
        former, self._fixed_prior = self._fixed_prior, self.latent_prior() if prior is None else prior
        try:
            yield
        finally:
            self._fixed_prior = former

    @contextmanager
    def mode(self, training: bool) -> Iterator[None]:
        """Be in training mode, or in evaluation mode, for the `with` block."""
        former = self.training
        self.train(training)
        try:
            yield
        finally:
            self.train(former)

    def sample(self, num_samples: int) -> Image:
        """Draw z ~ p(z), then x ~ p(x|z), and return x, `[num_samples, *event_shape]`."""
        return self.decode(self.latent_prior().sample((num_samples,))).sample()

    def reconstruct(self, x: Image) -> Image:
        """Return the mean of p(x|z), where z is the mean of q(z|x). If a distribution has no mean, use a sample.

        The mean of a discrete z is a vector of probabilities, which no draw of z equals.
        """
        return mean_or_sample(self.decode(mean_or_sample(self.encode(x))))


def make_vae(
    event_shape: Shape,
    latent_dim: int,
    encoder: Callable[..., Conditional],
    decoder: Callable[..., Conditional],
    prior: Callable[[Shape, Shape], Prior],
    encoder_network: MakeNetwork,
    decoder_network: MakeNetwork,
) -> VAE:
    """Make a VAE whose encoder and decoder have separate parameters, as in the paper.

    Args:
        event_shape: shape of one x.
        latent_dim: number of dimensions of z.
        encoder, decoder: make a `Conditional` from `(context_shape, event_shape, network=...)`.
        prior: makes the prior from `(latent_shape, event_shape)`.
        encoder_network, decoder_network: make the networks from the shapes of context and event.
    """
    latent_shape = (latent_dim,)
    return VAE(
        encoder(event_shape, latent_shape, network=encoder_network),
        decoder(latent_shape, event_shape, network=decoder_network),
        prior(latent_shape, event_shape),
    )


def make_shared_vae(
    event_shape: Shape,
    latent_dim: int,
    encoder: Callable[..., Conditional],
    decoder: Callable[..., Conditional],
    prior: Callable[[Shape, Shape], Prior],
    encoder_network: MakeNetwork,
    decoder_network: MakeNetwork,
    activation: str = "tanh",
) -> VAE:
    """Make a VAE whose encoder and decoder share a hidden layer: context -> own network -> *shared layer* -> own head.

    Both networks end in the same module, whose gradient is the sum over both uses. The arguments are those of
    `make_vae`, plus the `activation` of the shared layer.

    Raises:
        ValueError: the networks give different numbers of features, or a map instead of a vector.
    """
    own_encoder = encoder_network(event_shape, (latent_dim,))
    own_decoder = decoder_network((latent_dim,), event_shape)
    features = own_encoder.features_shape
    if len(features) != 1 or features != own_decoder.features_shape:
        raise ValueError(
            "model=shared needs an encoder and a decoder network whose features are vectors of the same size, found "
            f"{features} (encoder) and {own_decoder.features_shape} (decoder): type model=vae, or give both the same "
            "last width"
        )
    shared = MLP(features, (), features[0], activation)
    chains = [lambda *shapes, first=own: Chain(first, shared) for own in (own_encoder, own_decoder)]
    return make_vae(event_shape, latent_dim, encoder, decoder, prior, *chains)
