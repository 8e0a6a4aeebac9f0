"""The inference gap log p(x) - ELBO, split into what the encoder loses and what the posterior's family loses."""

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.estimators import ImportanceSampling
from vaelab.estimators.densities import Densities, Samples
from vaelab.estimators.fitting import fit
from vaelab.estimators.hamiltonian import Hamiltonian
from vaelab.evaluation.latent_usage import diagonal_normal, spread_of_mean
from vaelab.vae import VAE, Image

STEPS, SAMPLES, RATE = 100, 4, 0.1  # of the fit
CHOOSING, REPORTING = 20, 50  # samples to choose between the two ends of the fit, and to report the chosen one
GAP_VALUES = ("fitted_elbo", "fitted_rate", "amortization_gap")
MEMORY = ImportanceSampling.max_batch_elements


def gap_values(vae: VAE, x: Image) -> dict[str, Tensor]:
    """Return the ELBO and rate of the best q(z|x) of each example, and the amortisation gap, in nats.

    `log p(x) - ELBO = (log p(x) - ELBO of the best q) + (ELBO of the best q - ELBO of the encoder's q)`: the
    approximation gap of the posterior's family, and the amortisation gap of the encoder (Cremer, Li & Duvenaud 2018).
    The best q is fitted from the encoder's. It is the encoder's own where the fit has found no better one; other
    samples decide that than those of the reported ELBO, which would be too high otherwise. The result is empty
    unless q(z|x) is a diagonal Gaussian, because only these are fitted.
    """
    q = vae.encode(x)
    if diagonal_normal(q) is None:
        return {}
    dynamics = Hamiltonian(vae, x, 1, MEMORY)
    fitted, densities = fit(dynamics, q, STEPS, SAMPLES, RATE).diagonal(), dynamics.densities
    noise = torch.randn(CHOOSING, *q.mean.shape, dtype=x.dtype, device=x.device)
    improved = elbo(densities, fitted, noise)[0] > elbo(densities, q, noise)[0]
    noise = torch.randn(REPORTING, *q.mean.shape, dtype=x.dtype, device=x.device)
    before, after = elbo(densities, q, noise), elbo(densities, fitted, noise)
    best, rate = (torch.where(improved, new, old) for new, old in zip(after, before, strict=True))
    return dict(zip(GAP_VALUES, (best, rate, best - before[0]), strict=True))


def elbo(densities: Densities, q: td.Distribution, noise: Samples) -> tuple[Tensor, Tensor]:
    """Return the ELBO and the rate of a diagonal Gaussian q, as means over the samples that standard noise makes."""
    z = q.mean + q.stddev * noise
    log_ratio = q.log_prob(z) - densities.log_prior(z)
    return (densities.log_likelihood(z) - log_ratio).mean(0), log_ratio.mean(0)


def gap_summary(columns: dict[str, Tensor]) -> dict[str, float]:
    """Return the means of `gap_values` over a split, and the standard errors of these means over examples."""
    found = {name: values.mean().item() for name, values in columns.items()}
    return found | {f"{name}_error": spread_of_mean(values) for name, values in columns.items()}
