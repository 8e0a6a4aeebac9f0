"""Objectives with several samples of z per example, weighted by `w = p(x, z) / q(z|x)`."""

import logging
import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.stateless import _reparametrize_module

from vaelab.distributions import draw, sample
from vaelab.errors import check_count
from vaelab.objectives.base import BOUND, Objective, Terms, at_least_1
from vaelab.objectives.elbo import ELBO
from vaelab.vae import VAE, Image

log = logging.getLogger(__name__)

PerSample = Float[Tensor, "samples batch"]


@dataclass
class Weights:
    """Samples of z and the logs of their weights, in nats.

    Attributes:
        z: samples of q(z|x), `[samples, batch, latent_dim]`.
        reconstruction: log p(x|z).
        log_ratio: log q(z|x) - log p(z), whose mean is the KL.
    """

    z: Float[Tensor, "samples batch latent_dim"]
    reconstruction: PerSample
    log_ratio: PerSample

    @property
    def log_w(self) -> PerSample:
        """The logs of the weights."""
        return self.reconstruction - self.log_ratio


class Weighted(Objective):
    """Base class of the objectives with importance weights. They report their own bound, and the plain ELBO's terms.

    Args:
        num_samples: K, samples of z per example.

    Raises:
        ValueError: `num_samples` is below `fewest`.
    """

    metrics = (BOUND, *ELBO.metrics)
    fewest = 1

    def __init__(self, num_samples: int) -> None:
        super().__init__()
        check_count("objective.num_samples", num_samples, self.fewest)
        self.num_samples = num_samples

    def weigh(self, vae: VAE, x: Image, groups: int = 1, stopped: bool = False) -> Weights:
        """Draw `groups` times `num_samples` samples of z, and return their weights.

        If `stopped`, the parameters of q are constants in log q(z|x). Its gradient then flows through z only.
        """
        head, features = vae.encoder.head, vae.encoder.features(vae.scaled(x))
        q = head(features)
        z, log_q = draw(q, (groups * self.num_samples,))
        if stopped and torch.is_grad_enabled():
            constant = {name: parameter.detach() for name, parameter in head.named_parameters()}
            # not `functional_call`, because the log_prob of a flow calls the head's layers too
            with _reparametrize_module(head, constant, tie_weights=True):
                log_q = head(features.detach()).log_prob(z)
        elif log_q is None:
            log_q = q.log_prob(z)
        return Weights(z, vae.log_likelihood(x, z), log_q - vae.latent_prior().log_prob(z))

    def terms(self, loss: Tensor, bound: Tensor, weights: Weights) -> Terms:
        """Return the loss with the reported metrics."""
        reconstruction, kl = weights.reconstruction.mean(0), weights.log_ratio.mean(0)
        values = {BOUND.name: bound, "elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}
        return Terms(loss, {metric.name: values[metric.name] for metric in self.metrics})


@cache
def warn_of_tails(alpha: float) -> None:
    """Warn of an unreliable Renyi bound, once in a process."""
    log.warning(
        "objective.alpha=%g weighs rare, small weights most: trust it only if test/pareto_k is below 0.5", alpha
    )


def log_mean_exp(values: Tensor) -> Tensor:
    """Return the log of the mean of exp(values) over the first axis."""
    return values.logsumexp(0) - math.log(len(values))


class IWAE(Weighted):
    """The importance-weighted bound: Burda, Grosse & Salakhutdinov (2016), equation 8; with groups, MIWAE.

    `L_K = E log (1/K) sum_k w_k`, z_k ~ q(z|x). With M groups, the bound is the mean of M such terms: Rainforth et al.
    (2018). Its gradient has less noise than that of one group of M K samples, but its bound is looser.

    Args:
        num_samples: K, samples of z in a group.
        num_groups: M.

    Raises:
        ValueError: a count is below 1.
    """

    def __init__(self, num_samples: int = 50, num_groups: int = 1) -> None:
        at_least_1(num_groups=num_groups)
        super().__init__(num_samples)
        self.num_groups = num_groups

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        weights = self.weigh(vae, x, self.num_groups)
        groups = weights.log_w.unflatten(0, (-1, self.num_groups))
        bound = log_mean_exp(groups).mean(0)
        return self.terms(-bound, bound, weights)


class StickingTheLanding(Weighted):
    """The ELBO or the importance-weighted bound, without the score term in the gradient: Roeder, Wu & Duvenaud (2017).

    The parameters of q in log q(z|x) are constants, so the gradient of phi flows through z only. That does not change
    its mean for K = 1, and it has no variance if q is the posterior. For K > 1 it is biased (Tucker et al. 2019), which
    `DReG` mends.

    Args:
        num_samples: K.
    """

    def __init__(self, num_samples: int = 1) -> None:
        super().__init__(num_samples)

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        weights = self.weigh(vae, x, stopped=True)
        bound = log_mean_exp(weights.log_w)
        return self.terms(-bound, bound, weights)


class DReG(Weighted):
    """The importance-weighted bound with doubly reparametrised gradients: Tucker et al. (2019).

    With normalised weights v_k, theta gets `sum_k v_k d log w_k / d theta`, and phi gets
    `sum_k v_k^2 (d log w_k / d z_k) (d z_k / d phi)`. Both are unbiased. For K = 1 it is sticking the landing.

    Args:
        num_samples: K.
    """

    def __init__(self, num_samples: int = 50) -> None:
        super().__init__(num_samples)

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        weights = self.weigh(vae, x, stopped=True)
        normalised = weights.log_w.detach().softmax(0)
        if torch.is_grad_enabled():  # the loss gives z the gradient with v_k, and phi needs it with v_k^2
            weights.z.register_hook(lambda gradient: gradient * normalised.unsqueeze(-1))
        loss = -(normalised * weights.log_w).sum(0)
        return self.terms(loss, log_mean_exp(weights.log_w), weights)


class Renyi(Weighted):
    """The variational Renyi bound: Li & Turner (2016).

    `L_alpha = 1 / (1 - alpha) log (1/K) sum_k w_k^(1 - alpha)`. It is the importance-weighted bound for alpha = 0, and
    the ELBO for alpha = 1. A negative alpha gives no lower bound, so none is reported. With few samples it acts like an
    alpha nearer to 1.

    Args:
        alpha: the order; above 1, rare small weights decide, and the estimate is unreliable.
        num_samples: K.

    Raises:
        ValueError: alpha is NaN, or `num_samples` is below 1.
    """

    def __init__(self, alpha: float = 0.5, num_samples: int = 50) -> None:
        super().__init__(num_samples)
        self.alpha = alpha
        if alpha < 0:
            self.metrics = ELBO.metrics
        if math.isnan(alpha):
            raise ValueError("objective.alpha must be a number, found nan")
        if alpha > 1:
            warn_of_tails(alpha)

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        weights = self.weigh(vae, x)
        rest = 1 - self.alpha
        bound = weights.log_w.mean(0) if rest == 0 else log_mean_exp(rest * weights.log_w) / rest
        return self.terms(-bound, bound, weights)


class ReweightedWakeSleep(Weighted):
    """Reweighted wake-sleep with the wake-phase update of q: Bornschein & Bengio (2015); Le et al. (2020).

    With normalised weights v_k, theta descends `-sum_k v_k log p(x, z_k)`, and phi descends `-sum_k v_k log q(z_k|x)`.
    The samples carry no gradient, so q need not be reparametrised. Encoder and decoder must not share parameters.

    Args:
        num_samples: K, at least 2, because a single weight is always 1.
    """

    fewest = 2
    follows_samples = False

    def __init__(self, num_samples: int = 10) -> None:
        super().__init__(num_samples)

    def refusal(self, vae: VAE) -> str | None:
        """Refuse parameters that p(z) or p(x|z) shares with q, because both losses would reach them."""
        own = [parameter for parameter in vae.encoder.parameters() if parameter.requires_grad]
        generative = {id(parameter) for parameter in [*vae.decoder.parameters(), *vae.prior.parameters()]}
        with torch.enable_grad():  # a prior may call the encoder
            density = vae.latent_prior().log_prob(own[0].new_zeros(vae.latent_dim))
        calls = density.requires_grad and any(
            gradient is not None for gradient in torch.autograd.grad(density, own, allow_unused=True)
        )
        if calls or any(id(parameter) in generative for parameter in own):
            return "trains q and p by two losses, but they share parameters: type model=vae"
        return None

    def forward(self, vae: VAE, x: Image, step: Tensor) -> Terms:
        q = vae.encode(x)
        with torch.no_grad():
            z = sample(q, (self.num_samples,))
        log_q, log_prior = q.log_prob(z), vae.latent_prior().log_prob(z)
        weights = Weights(z, vae.log_likelihood(x, z), log_q - log_prior)
        normalised = weights.log_w.detach().softmax(0)
        loss = -(normalised * (weights.reconstruction + log_prior + log_q)).sum(0)
        return self.terms(loss, log_mean_exp(weights.log_w), weights)
