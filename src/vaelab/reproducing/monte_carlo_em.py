"""Monte Carlo EM, which trains p(z) and p(x|z) without an encoder: appendix E of Kingma & Welling (2014)."""

import math
from collections.abc import Iterator
from itertools import count, islice
from typing import NamedTuple

import torch
from torch import Tensor

from vaelab.estimators.base import refusal_of_discrete
from vaelab.estimators.hamiltonian import Hamiltonian
from vaelab.objectives import NormalWeightPrior
from vaelab.randomness import generator, seed_draws
from vaelab.vae import VAE, Image

TARGET_ACCEPTANCE = 0.9
GAIN = 0.5  # of the step size's logarithm
MAX_ELEMENTS = 64_000_000  # of the largest tensor of an E-step on a GPU; see `Densities`


class Progress(NamedTuple):
    """What Monte Carlo EM has done after an E-step and its weight updates.

    Figure 3 of the paper plots against "training samples evaluated", and does not say which count that is for Monte
    Carlo EM. An E-step evaluates every example `num_leapfrogs + 1` times, so `samples_evaluated` is
    proportional to the cost, as samples seen are for AEVB and wake-sleep.

    Attributes:
        samples_seen: examples in the minibatches of all weight updates so far.
        samples_evaluated: how many times p(x|z) of an example was differentiated so far, in E-steps as well.
        log_joint: mean over the examples of log p(x, z) in nats, where z is the sample of the last E-step.
        acceptance_rate: mean acceptance probability in the last E-step.
        step_size: mean step size in the last E-step.
    """

    samples_seen: int
    samples_evaluated: int
    log_joint: float
    acceptance_rate: float
    step_size: float


class Chains:
    """One chain of Hamiltonian Monte Carlo for each example, on p(z|x) under the present weights of the model.

    A chain starts at a draw from p(z), and goes on as the weights change, as in the authors' code: a chain that began
    anew in every E-step would not reach p(z|x) in one transition. All chains share one step size. After a transition
    its logarithm changes in proportion to the acceptance rate minus 0.9, so the rate is 0.9 on average over time. The
    authors' code multiplies or divides by 1.25, which alternates between 1 and nearly 0 where the rate falls steeply.
    Each chain takes steps up to 20 % shorter or longer, because a trajectory of a fixed length may return to where
    it began: Neal (2011), section 3.2.

    Args:
        vae: the model, whose encoder is not used.
        images: the training examples.
        num_leapfrogs: leapfrog steps of each transition.

    Raises:
        ValueError: z is discrete, or there is no example.
    """

    def __init__(self, vae: VAE, images: Image, num_leapfrogs: int = 10) -> None:
        if refused := refusal_of_discrete(vae):
            raise ValueError(f"Monte Carlo EM needs a continuous z: {refused}")
        self.vae, self.images, self.num_leapfrogs = vae, images, num_leapfrogs
        with torch.no_grad():
            self.z = vae.latent_prior().sample((1, len(images)))  # [1, images, latent_dim]
        self.step_size = 1 / num_leapfrogs

    @torch.no_grad()
    def advance(self) -> tuple[float, float]:
        """Take one transition of every chain. Return the mean acceptance probability, and the mean of log p(x, z)."""
        with self.vae.mode(training=False):
            dynamics = Hamiltonian(self.vae, self.images, self.num_leapfrogs, MAX_ELEMENTS)
            step_size = self.step_size * (0.8 + 0.4 * torch.rand_like(self.z[0, :, 0]))
            state, acceptance = dynamics.trajectory(dynamics.at(self.z), 1.0, step_size, self.num_leapfrogs)
        rate = acceptance.mean().item()
        self.step_size *= math.exp(GAIN * (rate - TARGET_ACCEPTANCE))
        self.z = state.z
        return rate, state.log_density(1.0).mean().item()


def monte_carlo_em(
    vae: VAE,
    images: Image,
    num_steps: int,
    lr: float,
    seed: int,
    num_leapfrogs: int = 10,
    num_updates: int = 5,
    batch_size: int = 100,
) -> Iterator[Progress]:
    """Train the decoder and the prior in place; yield the progress after each of `num_steps` steps.

    A step is an E-step, one transition of the chain of each example, and then `num_updates` updates of the weights,
    each on a minibatch of the examples with their z. Adagrad ascends `mean log p(x, z) + log p(theta) / N`, where
    p(theta) = N(0, I): this is maximum a posteriori estimation (section 5). Every E-step visits all examples, so
    the algorithm "is not an on-line algorithm" (figure 3), and suits small training sets only.

    The initial weights are those of `vae`; the paper draws them from N(0, 0.01), as `vaelab.networks.normal_init` does.
    All noise is a function of `seed`, whatever is drawn between two steps.

    Args:
        vae: the model; its encoder is neither used nor changed.
        images: the training examples, with pixels drawn once and for all, because each chain samples p(z|x) of one x.
        num_steps: how many E-steps.
        lr: the step size of Adagrad; the paper chooses among 0.01, 0.02 and 0.1.
        seed: the seed of chains and minibatches.
        num_leapfrogs, num_updates, batch_size: those of the paper.

    Raises:
        ValueError: z is discrete, or there is no example.
    """
    seed_draws(images.device, "train", seed, 0)
    chains = Chains(vae, images, num_leapfrogs)
    optimizer = torch.optim.Adagrad([*vae.decoder.parameters(), *vae.prior.parameters()], lr=lr)
    weight_prior = NormalWeightPrior()
    batches = minibatches(len(images), batch_size, seed)
    seen = evaluated = 0
    for step in range(1, num_steps + 1):
        seed_draws(images.device, "train", seed, step)
        step_size = chains.step_size
        acceptance_rate, log_joint = chains.advance()
        evaluated += len(images) * (num_leapfrogs + 1)
        with vae.mode(training=True):
            for batch in islice(batches, num_updates):
                x, z = images[batch], chains.z[0, batch]
                log_joints = vae.log_likelihood(x, z) + vae.latent_prior().log_prob(z)
                optimizer.zero_grad()
                (weight_prior(vae) / len(images) - log_joints.mean()).backward()
                optimizer.step()
                seen += len(batch)
                evaluated += len(batch)
        yield Progress(seen, evaluated, log_joint, acceptance_rate, step_size)


def minibatches(num_examples: int, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Yield the indices of minibatches for ever, in the order in which a run of this seed trains on them."""
    for epoch in count():
        order = torch.randperm(num_examples, generator=generator("shuffle", seed, epoch))
        yield from order.split(batch_size)
