"""Annealed importance sampling from the prior to the posterior, and bidirectional Monte Carlo."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.estimators.base import Estimate, PerExample, PerSimulated, at_least_1, of_weights, refusal_of_discrete
from vaelab.estimators.densities import Samples
from vaelab.estimators.hamiltonian import Hamiltonian, adapted
from vaelab.vae import VAE, Image

LogWeights = Float[Tensor, "chains batch"]
StepSizes = Float[Tensor, "temperatures batch"]
STEEPNESS = 4  # steepness of the sigmoid that spaces the temperatures
GAIN = 0.1  # how fast the step sizes adapt


@dataclass
class AnnealedImportanceSampling:
    """Annealed importance sampling (Neal 2001) for decoders: Wu, Burda, Salakhutdinov & Grosse (2017).

    Chains go from p(z) to p(z|x) along `f_t(z) = p(z) p(x|z)^beta_t`, with one Hamiltonian transition at each beta_t,
    `0 = beta_0 < ... < beta_T = 1` spaced by a sigmoid. The weight of a chain, `w = prod_t p(x|z_t)^(beta_t -
    beta_t-1)`, has the mean p(x), so the mean of `log (1/C) sum_c w_c` is a lower bound of log p(x) that rises with T.
    The encoder is not used. A preliminary run with a quarter of the chains adapts the step size of each example at each
    beta to an acceptance rate near 0.65; the main run does not adapt, because that would bias the weights.

    For an example drawn from the model itself, the z that it came from is one exact sample of p(z|x). Chains from
    there back to p(z) have weights with the mean 1/p(x), and so give an *upper* bound: bidirectional Monte Carlo
    (Grosse, Ghahramani & Adams 2015). The gap between the bounds shows how loose the lower one is.

    Args:
        num_temperatures: T.
        num_chains: C, per example.
        num_leapfrogs: maximum number of leapfrog steps in one transition.
        num_simulated: with each batch, draw this many examples from the model and bound their log p(x) from both sides.
        max_batch_elements: upper limit on the elements (4 bytes each) of the largest tensor that a module of the
            decoder returns; the backward pass needs several times as much memory.

    Raises:
        ValueError: a count is below 1, or `num_simulated` is negative; or, when called, x is an empty batch.

    Examples:
        >>> [round(beta, 2) for beta in AnnealedImportanceSampling(num_temperatures=4).betas()]
        [0.0, 0.1, 0.5, 0.9, 1.0]
    """

    num_temperatures: int = 500
    num_chains: int = 16
    num_leapfrogs: int = 10
    num_simulated: int = 2
    max_batch_elements: int = 64_000_000
    name: ClassVar[str] = "ais"
    label: ClassVar[str] = "annealed importance sampling"
    unbiased: ClassVar[bool] = True
    part_size: ClassVar[int | None] = 20

    def __post_init__(self) -> None:
        at_least_1(self, "num_temperatures", "num_chains", "num_leapfrogs", "max_batch_elements")
        if self.num_simulated < 0:
            raise ValueError(f"estimator.num_simulated must be 0 or more, found {self.num_simulated}")

    def refusal(self, vae: VAE) -> str | None:
        """Refuse a discrete latent, in which there are no gradients."""
        return refusal_of_discrete(vae)

    @torch.no_grad()
    def __call__(self, vae: VAE, x: Image) -> Estimate:
        log_weights, acceptance = self.forward(*self.prepared(vae, x))
        lower, upper = self.bounds(vae) if self.num_simulated else (None, None)
        return of_weights(log_weights, acceptance_rate=acceptance, simulated_lower=lower, simulated_upper=upper)

    def bounds(self, vae: VAE) -> tuple[PerSimulated, PerSimulated]:
        """Draw `num_simulated` examples from the model. Return bounds on their log p(x) that hold on average."""
        z = vae.latent_prior().sample((self.num_simulated,))
        dynamics, step_sizes = self.prepared(vae, vae.decode(z).sample())
        forward, _ = self.forward(dynamics, step_sizes)
        backward = self.backward(dynamics, step_sizes, z)
        return of_weights(forward).log_likelihood, -of_weights(backward).log_likelihood

    def prepared(self, vae: VAE, x: Image) -> tuple[Hamiltonian, StepSizes]:
        """Return the transitions, and the step sizes that a preliminary run has adapted."""
        dynamics = Hamiltonian(vae, x, self.num_leapfrogs, self.max_batch_elements)
        state = dynamics.at(vae.latent_prior().sample((-(-self.num_chains // 4), len(x))))
        step_sizes = [torch.full_like(state.log_prior[0], 1 / self.num_leapfrogs)]
        for t, beta in enumerate(self.betas()[1:], start=1):
            state, acceptance = dynamics.transition(state, beta, step_sizes[-1], t)
            step_sizes.append(adapted(step_sizes[-1], acceptance, GAIN))
        return dynamics, torch.stack(step_sizes)

    def forward(self, dynamics: Hamiltonian, step_sizes: StepSizes) -> tuple[LogWeights, PerExample]:
        """Run chains from the prior to the posterior; return log weights, and mean acceptance rates."""
        z = dynamics.vae.latent_prior().sample((self.num_chains, len(dynamics.x)))
        return self.weigh(dynamics, step_sizes, z, range(1, self.num_temperatures + 1))

    def backward(self, dynamics: Hamiltonian, step_sizes: StepSizes, z: Tensor) -> LogWeights:
        """Run chains from samples z of the posterior to the prior; return the logs of weights with the mean 1/p(x)."""
        z = z.expand(self.num_chains, -1, -1).contiguous()
        return -self.weigh(dynamics, step_sizes, z, range(self.num_temperatures, 0, -1))[0]

    def weigh(
        self, dynamics: Hamiltonian, step_sizes: StepSizes, z: Samples, order: range
    ) -> tuple[LogWeights, PerExample]:
        """Run chains from z along `order`; return sum_t (beta_t - beta_t-1) log p(x|z_t), and mean acceptance rates."""
        state, betas = dynamics.at(z), self.betas()
        log_weights = torch.zeros_like(state.log_prior, dtype=torch.float64)
        total = torch.zeros_like(state.log_prior[0])
        for t in order:
            if t != order[0]:
                between = min(t, t - order.step)  # the temperature that this weight and the one before it share
                state, acceptance = dynamics.transition(state, betas[between], step_sizes[between], between)
                total += acceptance.mean(0)
            log_weights += (betas[t] - betas[t - 1]) * state.log_likelihood
        return log_weights, total / max(1, self.num_temperatures - 1)

    def betas(self) -> list[float]:
        """Return the list of beta_0 = 0 to beta_T = 1."""
        levels = [STEEPNESS * (2 * t / self.num_temperatures - 1) for t in range(self.num_temperatures + 1)]
        raw = [1 / (1 + math.exp(-level)) for level in levels]
        return [(value - raw[0]) / (raw[-1] - raw[0]) for value in raw]
