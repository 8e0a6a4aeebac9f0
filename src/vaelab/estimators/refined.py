"""Importance sampling from a Gaussian that is fitted to the posterior of each example."""

from dataclasses import dataclass
from typing import ClassVar

import torch.distributions as td

from vaelab.estimators.base import at_least_1, refusal_of_discrete
from vaelab.estimators.fitting import fit
from vaelab.estimators.hamiltonian import Hamiltonian
from vaelab.estimators.importance import ImportanceSampling
from vaelab.vae import VAE, Image


@dataclass
class RefinedImportanceSampling(ImportanceSampling):
    """Importance sampling whose proposal begins at q(z|x) and is then refined for each example by itself.

    A few gradient steps on the ELBO of this one example repair what the encoder gets wrong (Kim et al. 2018), and the
    gradients on the way also tell the correlations between dimensions of z: `vaelab.estimators.fitting`. The final
    samples do not depend on those of the refinement, so the mean of exp(log_likelihood) is p(x), whatever the
    refinement does.

    Args:
        num_steps: Adam steps of the refinement.
        num_refining: samples of z in each step.
        rate: Adam's step size at the beginning, in units of z and of log scale; it falls to 0.
        widening: factor of the refined scales, because too narrow a proposal misses the posterior's tails.

    Raises:
        ValueError: an argument is out of its range; or, when called, x is an empty batch, or z does not range over the
            real numbers.
        PointMassError: when called, q(z|x) has no density.
    """

    num_steps: int = 20
    num_refining: int = 2
    rate: float = 0.1
    widening: float = 1.15
    name: ClassVar[str] = "refined"
    label: ClassVar[str] = "refined importance sampling"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_1(self, "num_steps", "num_refining")
        for name in ("rate", "widening"):
            if not getattr(self, name) > 0:
                raise ValueError(f"estimator.{name} must be a number above 0, found {getattr(self, name)!r}")

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a discrete latent, in which there are no gradients."""
        return refusal_of_discrete(vae)

    def proposal(self, vae: VAE, x: Image) -> td.Distribution:
        """Return the refined Gaussians."""
        dynamics = Hamiltonian(vae, x, 1, self.max_batch_elements)
        fitted = fit(dynamics, vae.encode(x), self.num_steps, self.num_refining, self.rate)
        return fitted.proposal(dynamics, self.widening)
