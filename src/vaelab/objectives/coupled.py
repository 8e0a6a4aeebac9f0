"""Objectives that compare the aggregate posterior q(z) with the prior, from all examples of a minibatch."""

import math

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor

from vaelab.distributions import sample
from vaelab.objectives.base import PerExample, at_least_0, factorises
from vaelab.objectives.elbo import Parts, Penalised
from vaelab.vae import VAE

Samples = Float[Tensor, "samples latent_dim"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, relative to the mean squared distance under N(0, I)


class InfoVAE(Penalised):
    """InfoVAE with the maximum mean discrepancy: Zhao, Song & Ermon (2019).

    The loss is `-E_q[log p(x|z)] + (1 - alpha) KL + (alpha + strength - 1) MMD^2(q(z), p(z))`. For alpha = 1 it is the
    Wasserstein auto-encoder's (Tolstikhin et al. 2018) with a stochastic encoder.

    Args:
        alpha: 1 removes the KL.
        strength: lambda in the paper.
        closed_form, num_samples: as for `ELBO`; the discrepancy is a mean over samples.

    Raises:
        ValueError: alpha is above 1, which rewards the KL, or `strength` is below 1 - alpha.
    """

    couples_batch = True

    def __init__(
        self, alpha: float = 0.0, strength: float = 10.0, closed_form: bool = True, num_samples: int = 1
    ) -> None:
        super().__init__(closed_form, num_samples)
        if not alpha <= 1:
            raise ValueError(f"objective.alpha must be at most 1, found {alpha}")
        if not strength >= 1 - alpha:
            raise ValueError(f"objective.strength must be at least 1 - alpha = {1 - alpha:g}, found {strength}")
        self.alpha, self.strength = alpha, strength

    def refusal(self, vae: VAE) -> str | None:
        if not vae.latent_prior().has_rsample and any(True for _ in vae.prior.parameters()):
            return "needs a prior whose samples carry a gradient: type prior=normal or prior=standard_normal"
        return None

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        # the samples of one example are no independent draws of q(z), so each minibatch of samples stands alone
        minibatches = parts.z.reshape(-1, *parts.z.shape[-2:])
        discrepancy = torch.stack([squared_mmd(z, sample(parts.p, z.shape[:1])) for z in minibatches]).mean()
        kl = parts.kl if self.alpha == 0 else (1 - self.alpha) * parts.kl
        return kl + (self.alpha + self.strength - 1) * discrepancy


def squared_mmd(one: Samples, other: Samples) -> Float[Tensor, ""]:
    """Return an unbiased estimate of the squared maximum mean discrepancy; it may be negative, and is 0 for one sample.

    It is the U-statistic of Gretton et al. (2012), equation 3, with the sum of inverse multiquadric kernels
    `C / (C + |a - b|^2)`, `C = 2 d s` for each s of `SCALES` (Tolstikhin et al. 2018, section 4).
    """
    n, latent_dim = one.shape
    if n < 2:
        return (0 * one).sum()

    def kernel(a: Samples, b: Samples) -> Float[Tensor, "n n"]:
        distance = (a.square().sum(-1, keepdim=True) + b.square().sum(-1) - 2 * a @ b.T).clamp_min(0)
        return torch.stack([1 / (1 + distance / (2 * latent_dim * scale)) for scale in SCALES]).sum(0)

    within = [(kernel(z, z).sum() - n * len(SCALES)) / (n * (n - 1)) for z in (one, other)]  # without the diagonal
    return within[0] + within[1] - 2 * kernel(one, other).mean()


class TotalCorrelation(Penalised):
    """The KL split into three terms with weights of their own: beta-TCVAE, Chen et al. (2018), equation 2.

    `KL = I(x; z) + KL(q(z) || prod_j q(z_j)) + KL(prod_j q(z_j) || p(z))`: mutual information, total correlation and
    the KL of the marginals. They are estimated from one sample of z for each example of the minibatch, see
    `log_aggregate`.

    Args:
        alpha, beta, gamma: the weights of the three terms, in this order.

    Raises:
        ValueError: a weight is negative.
    """

    couples_batch = True

    def __init__(self, alpha: float = 1.0, beta: float = 6.0, gamma: float = 1.0) -> None:
        super().__init__(closed_form=False)
        at_least_0(alpha=alpha, beta=beta, gamma=gamma)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a posterior that does not factorise over latent dimensions."""
        return (
            None
            if factorises(vae.encode(vae.blank()))
            else "needs q(z|x) to factorise: type model=vae encoder=gaussian"
        )

    def penalty(self, parts: Parts, step: Tensor) -> PerExample:
        assert isinstance(parts.q, td.Independent)
        log_q = parts.q.log_prob(parts.z)
        joint, marginals = log_aggregate(parts.q, parts.z, max(self.num_train, len(log_q)))
        information, correlation = log_q - joint, joint - marginals
        return self.alpha * information + self.beta * correlation + self.gamma * (marginals - parts.p.log_prob(parts.z))


def log_aggregate(q: td.Independent, z: Samples, num_train: int) -> tuple[PerExample, PerExample]:
    """Estimate log q(z) and sum_j log q(z_j) of the aggregate posterior `q(z) = (1/N) sum_n q(z|x_n)`.

    The estimate of q(z_i) from a minibatch of B examples weighs the example that z_i came from by 1/N, and each other
    one by `(N - 1) / (N (B - 1))`. It is unbiased. In Chen et al. (2018), appendix C.2, one random other example has a
    weight of its own; this is the mean over that choice. Its logarithm is biased downwards.
    """
    size = len(z)
    own = torch.eye(size, dtype=torch.bool, device=z.device)
    other = math.log((num_train - 1) / (num_train * (size - 1))) if size > 1 and num_train > 1 else -math.inf
    log_weights = torch.full((size, size), other, dtype=z.dtype, device=z.device)
    log_weights = log_weights.masked_fill(own, -math.log(num_train if size > 1 else 1))
    log_prob = q.base_dist.log_prob(z.unsqueeze(1))  # of z_i under q(z|x_j), for each latent dimension: [i, j, d]
    joint = (log_prob.sum(-1) + log_weights).logsumexp(1)
    return joint, (log_prob + log_weights.unsqueeze(-1)).logsumexp(1).sum(-1)
