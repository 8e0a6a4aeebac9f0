"""Hamiltonian Monte Carlo on p(z) p(x|z)^beta, with many chains of many examples in one batch."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.estimators.base import PerExample, at_least_one_example
from vaelab.estimators.densities import Densities, Samples
from vaelab.vae import VAE, Image

PerChain = Float[Tensor, "samples batch"]
GOLDEN = (math.sqrt(5) - 1) / 2
TARGET_ACCEPTANCE = 0.65  # optimal in high dimensions: Beskos et al. (2013); Neal (2011), section 4.4


class State(NamedTuple):
    """The positions z of chains, with log p(z), log p(x|z) and their gradients there."""

    z: Samples
    log_prior: PerChain
    log_likelihood: PerChain
    prior_gradient: Samples
    likelihood_gradient: Samples

    def log_density(self, beta: float) -> PerChain:
        return self.log_prior + beta * self.log_likelihood

    def gradient(self, beta: float) -> Samples:
        return self.prior_gradient + beta * self.likelihood_gradient


@dataclass
class Hamiltonian:
    """Transitions that leave the density `p(z) p(x|z)^beta` of each example x invariant: Neal (2011), section 3.

    At beta = 1 this density is the unnormalised posterior. Momenta are drawn from N(0, I) for every transition. The
    number of leapfrog steps varies between transitions, up to `num_leapfrogs`, because trajectories of a fixed length
    may always return to where they began.
    """

    vae: VAE
    x: Image
    num_leapfrogs: int
    max_batch_elements: int

    def __post_init__(self) -> None:
        at_least_one_example(self.x)
        self.densities = Densities(self.vae, self.x, self.max_batch_elements)

    def at(self, z: Samples) -> State:
        """Return the state of chains at z, `[chains, batch, latent_dim]`."""
        log_prior, prior_gradient = self.densities.gradient_of_log_prior(z)
        log_likelihood, likelihood_gradient = self.densities.gradient_of_log_likelihood(z)
        return State(z, log_prior, log_likelihood, prior_gradient, likelihood_gradient)

    def transition(self, state: State, beta: float, step_size: PerExample, number: int) -> tuple[State, PerChain]:
        """Return the new state and the acceptance probabilities. `number` sets how many leapfrog steps are taken."""
        num_leapfrogs = 1 + int(self.num_leapfrogs * (number * GOLDEN % 1))  # evenly spread over 1 .. num_leapfrogs
        return self.trajectory(state, beta, step_size, num_leapfrogs)

    def trajectory(
        self, state: State, beta: float, step_size: PerExample, num_leapfrogs: int
    ) -> tuple[State, PerChain]:
        """Return the new state and the acceptance probabilities of a transition of so many leapfrog steps."""
        step = step_size.unsqueeze(-1)  # [batch, 1]
        momentum = torch.randn_like(state.z)
        before = state.log_density(beta) - momentum.square().sum(-1) / 2
        proposed = state
        momentum = momentum + step / 2 * state.gradient(beta)
        for left in reversed(range(num_leapfrogs)):
            proposed = self.at(proposed.z + step * momentum)
            momentum = momentum + (step if left else step / 2) * proposed.gradient(beta)
        after = proposed.log_density(beta) - momentum.square().sum(-1) / 2
        acceptance = (after - before).exp().clamp(max=1).nan_to_num(0)  # reject a diverged trajectory, which gives NaN
        accepted = torch.rand_like(acceptance) < acceptance
        chosen = [
            torch.where(accepted.unsqueeze(-1) if new.dim() == 3 else accepted, new, old)
            for new, old in zip(proposed, state, strict=True)
        ]
        return State(*chosen), acceptance


def adapted(step_size: PerExample, acceptance: PerChain, gain: float) -> PerExample:
    """Return the step size of each example, adapted to bring the mean acceptance of its chains nearer to 0.65."""
    return step_size * (gain * (acceptance.mean(0) - TARGET_ACCEPTANCE)).exp()
