"""The estimator of appendix D of Kingma & Welling (2014): posterior samples and the harmonic identity."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.estimators.base import Estimate, at_least_1, refusal_of_discrete
from vaelab.estimators.hamiltonian import Hamiltonian, adapted
from vaelab.vae import VAE, Image

Chains = Float[Tensor, "draws chains batch latent_dim"]
Values = Float[Tensor, "draws chains batch"]
LARGEST_LATENT = 5  # one more than the paper advises; tested on a model with an exact log p(x)
COVERED = 0.9


@dataclass
class HarmonicMean:
    """The marginal likelihood by Hamiltonian Monte Carlo: appendix D of Kingma & Welling (2014).

    `1 / p(x) = E_p(z|x)[ f(z) / p(x, z) ]` for any density f that is zero where p(z|x) is zero. Chains sample the
    posterior; f is fitted to the samples of half the chains, and the mean is over the samples of the other half. Here
    f is a Gaussian truncated to the ellipsoid that holds 90 % of it, so that no rare sample in its tails dominates the
    mean (Geweke 1999). A Gaussian fits well in few dimensions only: the paper advises fewer than 5, and the estimator
    refuses more than 5.

    The standard error comes from the spread between the chains. The effective sample size is the number of independent
    draws with that standard error.

    Args:
        num_chains: chains per example, an even number.
        num_draws: draws from each chain.
        num_burn_in: transitions before the draws, in which step sizes adapt to an acceptance rate of 0.65.
        num_leapfrogs: maximum number of leapfrog steps in one transition.
        max_batch_elements: upper limit on the elements of the largest tensor that a module of the decoder returns.

    Raises:
        ValueError: a count is too small; or, when called, the latent has more than 5 dimensions, or x is an empty
            batch.
    """

    num_chains: int = 32
    num_draws: int = 50
    num_burn_in: int = 100
    num_leapfrogs: int = 10
    max_batch_elements: int = 64_000_000
    name: ClassVar[str] = "hmc"
    label: ClassVar[str] = "HMC with the harmonic identity"
    unbiased: ClassVar[bool] = False
    part_size: ClassVar[int | None] = 20

    def __post_init__(self) -> None:
        at_least_1(self, "num_draws", "num_burn_in", "num_leapfrogs", "max_batch_elements")
        if self.num_chains < 4 or self.num_chains % 2 or self.num_chains * self.num_draws < 100:
            raise ValueError(
                "estimator.num_chains must be even and at least 4, and num_chains times num_draws at least 100, "
                f"found num_chains={self.num_chains} and num_draws={self.num_draws}: type estimator.num_chains=32 "
                "estimator.num_draws=50"
            )

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a latent that is discrete, or has too many dimensions."""
        why = (
            f"it fits a density to samples of p(z|x), which needs at most {LARGEST_LATENT} dimensions, found "
            f"latent_dim={vae.latent_dim}"
        )
        return refusal_of_discrete(vae) or (why if vae.latent_dim > LARGEST_LATENT else None)

    @torch.no_grad()
    def __call__(self, vae: VAE, x: Image) -> Estimate:
        if refused := self.refusal(vae):
            raise ValueError(f"estimator=hmc: {refused}")
        draws, log_joint, acceptance = self.sample(Hamiltonian(vae, x, self.num_leapfrogs, self.max_batch_elements))
        half = self.num_chains // 2
        log_ratios = log_density_of_fit(draws[:, :half], draws[:, half:]) - log_joint[:, half:].double()
        return harmonic(log_ratios, acceptance_rate=acceptance, r_hat=r_hat(draws))

    def sample(self, dynamics: Hamiltonian) -> tuple[Chains, Values, Float[Tensor, " batch"]]:
        """Return draws of p(z|x) from chains that start at q(z|x), their log p(x, z), and the acceptance rates."""
        state = dynamics.at(dynamics.vae.encode(dynamics.x).sample((self.num_chains,)))
        step_size = torch.full_like(state.log_prior[0], 1 / self.num_leapfrogs)
        for t in range(self.num_burn_in):
            state, acceptance = dynamics.transition(state, 1.0, step_size, t)
            step_size = adapted(step_size, acceptance, gain=1 / math.sqrt(1 + t))
        draws, log_joints, total = [], [], torch.zeros_like(step_size)
        for t in range(self.num_draws):
            state, acceptance = dynamics.transition(state, 1.0, step_size, t)
            draws.append(state.z)
            log_joints.append(state.log_density(1.0))
            total += acceptance.mean(0)
        return torch.stack(draws), torch.stack(log_joints), total / self.num_draws


def log_density_of_fit(fitted: Chains, at: Chains) -> Values:
    """Return the log density at the points `at` of the truncated Gaussian that is fitted to the points `fitted`.

    The density is 0 everywhere if the fitted points span too few dimensions, for example if all are equal.
    """
    from scipy.stats import chi2  # slow to import

    first = fitted[0, 0]  # subtracted, so that the covariance of draws that are all equal is exactly 0
    fitted, at = fitted - first, at - first
    sample = fitted.flatten(0, 1).movedim(1, 0).double()  # [batch, draws, latent_dim]
    latent_dim = sample.shape[-1]
    mean = sample.mean(1)
    centred = sample - mean.unsqueeze(1)
    cholesky, failed = torch.linalg.cholesky_ex(centred.mT @ centred / (sample.shape[1] - 1))
    points = (at.double() - mean).movedim(-2, 0).flatten(1, 2)  # [batch, draws * chains, latent_dim]
    whitened = torch.linalg.solve_triangular(cholesky, points.mT, upper=False)
    square = whitened.square().sum(1)
    log_norm = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1) + latent_dim / 2 * math.log(2 * math.pi)
    inside = (square <= float(chi2.ppf(COVERED, latent_dim))) & (failed == 0).unsqueeze(-1)
    log_density = torch.where(inside, -square / 2 - log_norm.unsqueeze(-1) - math.log(COVERED), -math.inf)
    return log_density.unflatten(1, at.shape[:2]).movedim(0, -1)


def harmonic(log_ratios: Values, **more: Tensor) -> Estimate:
    """Return the estimate -log mean(f / p(x, z)), with its error from the spread between independent chains.

    The estimate is NaN if none of the draws lies where f is positive.
    """
    draws, chains, _ = log_ratios.shape
    log_mean = log_ratios.logsumexp((0, 1)) - math.log(draws * chains)
    log_mean = log_mean.where(log_mean.isfinite(), math.nan)
    relative = (log_ratios - log_mean).exp()  # has mean 1
    variance = relative.mean(0).var(0) / chains
    effective = (relative.flatten(0, 1).var(0) / variance).clamp(max=draws * chains)
    return Estimate(-log_mean, variance.sqrt(), effective, variance / 2, **more)


def r_hat(draws: Chains) -> Float[Tensor, " batch"]:
    """Return the rank-normalised split R-hat of each example, the largest over dimensions: Vehtari et al. (2021).

    It is the larger one of the R-hat of the draws and that of their distances from the median.
    """
    from scipy.stats import norm, rankdata  # slow to import

    half = len(draws) // 2
    if half < 2:
        return torch.full(draws.shape[2:3], math.nan, device=draws.device)
    split = torch.cat([draws[:half], draws[-half:]], 1).numpy(force=True)
    folded = np.abs(split - np.median(split, (0, 1)))
    found = []
    for values in (split, folded):
        ranks = rankdata(values.reshape(-1, *values.shape[2:]), axis=0).reshape(values.shape)
        scores = norm.ppf((ranks - 3 / 8) / (half * values.shape[1] + 1 / 4))
        with np.errstate(invalid="ignore", divide="ignore"):  # chains that never moved
            ratio = scores.mean(0).var(0, ddof=1) / scores.var(0, ddof=1).mean(0)
        found.append(np.sqrt(ratio + (half - 1) / half))
    return torch.as_tensor(np.maximum(*found), device=draws.device).max(-1).values
