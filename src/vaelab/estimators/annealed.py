"""Annealed importance sampling from the prior to the posterior, and bidirectional Monte Carlo."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.estimators.base import Estimate, PerSimulated, at_least_1, of_weights
from vaelab.estimators.hamiltonian import Hamiltonian, adapted
from vaelab.vae import VAE, Image

LogWeights = Float[Tensor, "chains batch"]
StepSizes = Float[Tensor, "temperatures batch"]
STEEPNESS = 4  # of the sigmoid that spaces the temperatures
GAIN = 0.1  # of the step sizes' adaptation


@dataclass
class AnnealedImportanceSampling:
    """Annealed importance sampling (Neal 2001) for decoders: Wu, Burda, Salakhutdinov & Grosse (2017).

    Chains go from p(z) to p(z|x) along `f_t(z) = p(z) p(x|z)^beta_t`, with one Hamiltonian transition at each beta_t,
    `0 = beta_0 < ... < beta_T = 1` spaced by a sigmoid. The weight of a chain, `w = prod_t p(x|z_t)^(beta_t -
    beta_t-1)`, has the mean p(x), so the mean of `log (1/C) sum_c w_c` is a lower bound of log p(x) that rises with T.
    The encoder is not used. A preliminary run with a quarter of the chains adapts the step size of each example at each
    beta to an acceptance rate near 0.65; the main run does not adapt, because that would bias the weights.

    For an example drawn from the model itself, the z that it came from is one exact sample of p(z|x). Chains that go
    back from it to p(z) have weights with the mean 1/p(x), and so give an *upper* bound: bidirectional Monte Carlo
    (Grosse, Ghahramani & Adams 2015). The gap between the bounds shows how loose the lower one is.

    Args:
        num_temperatures: T.
        num_chains: C, per example.
        num_leapfrogs: the most leapfrog steps in one transition.
        num_simulated: with every batch, bound so many examples drawn from the model from both sides.
        max_batch_elements: upper limit on the numbers in one output of the decoder (4 bytes each; its gradient needs
            several times that).

    Raises:
        ValueError: a count is below 1, or `num_simulated` is negative; when called, x has no example.

    Examples:
        >>> [round(beta, 2) for beta in AnnealedImportanceSampling(num_temperatures=4).betas()]
        [0.0, 0.1, 0.5, 0.9, 1.0]
    """

    num_temperatures: int = 500
    num_chains: int = 16
    num_leapfrogs: int = 10
    num_simulated: int = 0
    max_batch_elements: int = 4_000_000
    name: ClassVar[str] = "ais"
    label: ClassVar[str] = "annealed importance sampling"
    unbiased: ClassVar[bool] = True
    part_size: ClassVar[int | None] = 20

    def __post_init__(self) -> None:
        at_least_1(self, "num_temperatures", "num_chains", "num_leapfrogs", "max_batch_elements")
        if self.num_simulated < 0:
            raise ValueError(f"estimator.num_simulated must be 0 or more, found {self.num_simulated}")

    def refusal(self, latent_dim: int) -> str | None:
        """Return None, because any latent size works."""

    @torch.no_grad()
    def __call__(self, vae: VAE, x: Image) -> Estimate:
        log_weights, _, acceptance = self.forward(vae, x)
        lower, upper = self.bounds(vae) if self.num_simulated else (None, None)
        return of_weights(log_weights, acceptance_rate=acceptance, simulated_lower=lower, simulated_upper=upper)

    def bounds(self, vae: VAE) -> tuple[PerSimulated, PerSimulated]:
        """Return lower and upper bounds (on average) of log p(x), for `num_simulated` examples drawn from the model."""
        z = vae.latent_prior().sample((self.num_simulated,))
        x = vae.decode(z).sample()
        forward, step_sizes, _ = self.forward(vae, x)
        backward = self.backward(vae, x, z, step_sizes)
        return of_weights(forward).log_likelihood, -of_weights(backward).log_likelihood

    def forward(self, vae: VAE, x: Image) -> tuple[LogWeights, StepSizes, Float[Tensor, " batch"]]:
        """Run chains from the prior to the posterior; return log weights, step sizes and mean acceptance rates."""
        dynamics = Hamiltonian(vae, x, self.num_leapfrogs, self.max_batch_elements)
        step_sizes = self.settle_step_sizes(dynamics)
        state = dynamics.at(vae.latent_prior().sample((self.num_chains, len(x))))
        log_weights = torch.zeros_like(state.log_prior, dtype=torch.float64)
        total = torch.zeros_like(state.log_prior[0])
        betas = self.betas()
        for t in range(1, self.num_temperatures + 1):
            log_weights += (betas[t] - betas[t - 1]) * state.log_likelihood
            if t < self.num_temperatures:  # the last transition would change no weight
                state, acceptance = dynamics.transition(state, betas[t], step_sizes[t], t)
                total += acceptance.mean(0)
        return log_weights, step_sizes, total / max(1, self.num_temperatures - 1)

    def backward(self, vae: VAE, x: Image, z: Float[Tensor, "batch latent_dim"], step_sizes: StepSizes) -> LogWeights:
        """Run chains from samples z of the posterior to the prior; return log weights, of weights with mean 1/p(x)."""
        dynamics = Hamiltonian(vae, x, self.num_leapfrogs, self.max_batch_elements)
        state = dynamics.at(z.expand(self.num_chains, -1, -1).contiguous())
        log_weights = torch.zeros_like(state.log_prior, dtype=torch.float64)
        betas = self.betas()
        for t in range(self.num_temperatures, 0, -1):
            if t < self.num_temperatures:
                state, _ = dynamics.transition(state, betas[t], step_sizes[t], t)
            log_weights -= (betas[t] - betas[t - 1]) * state.log_likelihood
        return log_weights

    def settle_step_sizes(self, dynamics: Hamiltonian) -> StepSizes:
        """Return the step size of each example at each temperature, adapted in a run whose weights are not used."""
        num_chains = -(-self.num_chains // 4)
        state = dynamics.at(dynamics.vae.latent_prior().sample((num_chains, len(dynamics.x))))
        step_size = torch.full_like(state.log_prior[0], 1 / self.num_leapfrogs)
        settled = [step_size]
        for t, beta in enumerate(self.betas()[1:], start=1):
            state, acceptance = dynamics.transition(state, beta, step_size, t)
            step_size = adapted(step_size, acceptance, GAIN)
            settled.append(step_size)
        return torch.stack(settled)

    def betas(self) -> list[float]:
        """Return beta_0 = 0 to beta_T = 1."""
        ends = [1 / (1 + math.exp(sign * STEEPNESS)) for sign in (1, -1)]
        raw = [
            1 / (1 + math.exp(-STEEPNESS * (2 * t / self.num_temperatures - 1)))
            for t in range(self.num_temperatures + 1)
        ]
        return [(value - ends[0]) / (ends[1] - ends[0]) for value in raw]
