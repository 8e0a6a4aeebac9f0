"""Priors whose parameters are learnt."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.distributions as td
from torch import Tensor, nn

import vaelab.distributions as vd
from vaelab.errors import ConfigError, check_count
from vaelab.priors.base import Encode, Prior

MIN_SCALE = 1e-3  # floor of a standard deviation, because a density has no upper bound as it goes to 0
LOG_SCALE = math.log(1 - MIN_SCALE)  # of a standard deviation of 1
EDGE = 0.05  # from 0 and from 1, of a pseudo-input that begins at data, because a sigmoid is flat near both


class LearnedNormal(Prior):
    """The prior p(z) = N(mu, diag(sigma^2)), with learnt mu and sigma; it begins as N(0, I)."""

    def __init__(self, latent_shape: Sequence[int], event_shape: Sequence[int]) -> None:
        super().__init__(latent_shape, event_shape)
        self.loc = nn.Parameter(torch.zeros(*latent_shape))
        self.log_scale = nn.Parameter(torch.full(latent_shape, LOG_SCALE))

    def forward(self, encode: Encode) -> td.Distribution:
        scale = scale_of(self.log_scale)
        return td.Independent(td.Normal(self.loc, scale, validate_args=False), 1, validate_args=False)

    @torch.no_grad()
    def fit(self, encode: Encode, z: Tensor) -> None:
        """Take the mean and the standard deviation of z, which maximise the likelihood."""
        self.loc.copy_(z.mean(0))
        self.log_scale.copy_(log_of_scale(z.std(0, correction=0)))


class MixtureOfGaussians(Prior):
    """The prior `p(z) = sum_k pi_k N(z; mu_k, S_k)`, with learnt weights, means and covariances.

    The means begin as draws from N(0, I), so that the components differ. A full covariance is `L L^T`, L lower
    triangular, and begins as the identity.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_components: the number of components.
        covariance: of each component, `diagonal` or `full`.

    Raises:
        ValueError: `num_components` is below 1, or `covariance` is unknown.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        num_components: int = 10,
        covariance: str = "diagonal",
    ) -> None:
        super().__init__(latent_shape, event_shape)
        check_count("prior.num_components", num_components)
        if covariance not in ("diagonal", "full"):
            raise ValueError(f"prior.covariance must be diagonal or full, found {covariance!r}")
        shape = (num_components, *latent_shape)
        self.logits = nn.Parameter(torch.zeros(num_components))
        self.loc = nn.Parameter(torch.randn(shape))
        self.log_scale = nn.Parameter(torch.full(shape, LOG_SCALE))
        self.below = nn.Parameter(torch.zeros(*shape, *latent_shape)) if covariance == "full" else None

    def forward(self, encode: Encode) -> td.Distribution:
        scale = scale_of(self.log_scale)
        if self.below is None:
            return vd.DiagonalMixture(self.logits, self.loc, scale)
        weights = td.Categorical(logits=self.logits, validate_args=False)
        scale_tril = scale.diag_embed() + self.below.tril(-1)
        components = vd.MultivariateNormal(self.loc, scale_tril=scale_tril, validate_args=False)
        return td.MixtureSameFamily(weights, components, validate_args=False)

    @torch.no_grad()
    def fit(self, encode: Encode, z: Tensor) -> None:
        """Take the mixture that scikit-learn fits by expectation maximisation, seeded by the global generator."""
        from sklearn.mixture import GaussianMixture  # slow to import, and needed only here

        full = self.below is not None
        mixture = GaussianMixture(
            len(self.logits),
            covariance_type="full" if full else "diag",
            random_state=int(torch.randint(2**31, ())),
        ).fit(z.double().numpy(force=True))
        weights, loc, covariance = map(torch.as_tensor, (mixture.weights_, mixture.means_, mixture.covariances_))
        tril = torch.linalg.cholesky(covariance if full else covariance.diag_embed())
        self.logits.copy_(weights.log())
        self.loc.copy_(loc)
        self.log_scale.copy_(log_of_scale(tril.diagonal(dim1=-2, dim2=-1)))
        if self.below is not None:
            self.below.copy_(tril.tril(-1))


class VampPrior(Prior):
    """The variational mixture of posteriors: Tomczak & Welling (2018), `p(z) = (1/K) sum_k q(z|u_k)`.

    Each pseudo-input u_k is the sigmoid of a learnt tensor. It therefore lies in (0, 1), as the encoder's inputs do,
    and its gradient does not vanish at a bound. Gradients of the prior also reach the encoder, which makes the
    mixture's components.

    Args:
        latent_shape, event_shape: as for `Prior`.
        num_pseudo_inputs: K; each costs an encoder's pass in every step, and once in an evaluation.
        init: `data` begins at training examples x, whose logits are those of `EDGE + (1 - 2 EDGE) x`, with noise from
            N(0, noise^2) on each; `random` begins at logits from N(0, 1).
        noise: see `init`.

    Raises:
        ValueError: `num_pseudo_inputs` is below 1, `init` is unknown, or `noise` is negative.
        ConfigError: when called, the density of q(z|x) takes too long, as that of a flow does.
    """

    def __init__(
        self,
        latent_shape: Sequence[int],
        event_shape: Sequence[int],
        num_pseudo_inputs: int = 500,
        init: str = "random",
        noise: float = 0.5,
    ) -> None:
        super().__init__(latent_shape, event_shape)
        check_count("prior.num_pseudo_inputs", num_pseudo_inputs)
        if init not in ("data", "random"):
            raise ValueError(f"prior.init must be data or random, found {init!r}")
        if not noise >= 0:
            raise ValueError(f"prior.noise must be 0 or more, found {noise}")
        self.init, self.noise = init, noise
        self.logits = nn.Parameter(torch.randn(num_pseudo_inputs, *event_shape))

    @torch.no_grad()
    def initialize(self, draw: Callable[[int], Tensor]) -> None:
        if self.init == "data":
            x = EDGE + (1 - 2 * EDGE) * draw(len(self.logits))
            self.logits.copy_(x.logit() + self.noise * torch.randn_like(x))

    def forward(self, encode: Encode) -> td.Distribution:
        components = encode(self.logits.sigmoid())
        if getattr(components, "has_slow_density", False):
            raise ConfigError(
                f"VampPrior computes the density of every q(z|u_k) at every z, and that of {type(components).__name__} "
                "takes too long: type prior=flow, or encoder=gaussian"
            )
        logits = self.logits.new_zeros(len(self.logits))
        if isinstance(components, td.Independent) and isinstance(components.base_dist, td.Normal):
            return vd.DiagonalMixture(logits, components.base_dist.loc, components.base_dist.scale)
        weights = td.Categorical(logits=logits, validate_args=False)
        return td.MixtureSameFamily(weights, components, validate_args=False)


def scale_of(log_scale: Tensor) -> Tensor:
    """Return the standard deviation `exp(log_scale) + MIN_SCALE`, whose floor keeps densities finite."""
    return vd.bounded_log_scale(log_scale).exp() + MIN_SCALE


def log_of_scale(scale: Tensor) -> Tensor:
    """Return the `log_scale` of which `scale_of` makes this standard deviation.

    A standard deviation of `MIN_SCALE` or less becomes one just above `MIN_SCALE`.
    """
    return (scale - MIN_SCALE).clamp(min=MIN_SCALE / 1000).log()
