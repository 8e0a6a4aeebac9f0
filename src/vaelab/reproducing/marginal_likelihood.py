"""Auto-Encoding Variational Bayes, figure 3: the marginal likelihood of AEVB, wake-sleep and Monte Carlo EM."""

import json
import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any, cast

import torch
import torch.distributions as td
from torch import Tensor
from torch.nn.functional import softplus

from vaelab.api import Run
from vaelab.data import ImageData
from vaelab.data.splits import SplitName
from vaelab.distributions import IndependentBernoulli
from vaelab.estimators import HarmonicMean
from vaelab.files import write_atomically
from vaelab.networks import normal_init
from vaelab.randomness import seed_draws
from vaelab.reproducing.aevb import METHODS
from vaelab.reproducing.base import Lab, Reproduction
from vaelab.reproducing.curves import CurveAtEpochs, Points, curve, draw, drawn, first_examples, mean
from vaelab.reproducing.monte_carlo_em import monte_carlo_em
from vaelab.reproducing.results import Row
from vaelab.training import VAEModule
from vaelab.vae import VAE

SPLITS: dict[SplitName, str] = {"train": "marginal/train", "test": "marginal/test"}
EM = "Monte Carlo EM"
NUM_FIRST = 2**14  # points of p(z)
NUM_POINTS = 2**8
ROUNDS = 4
FEWEST = 20  # effective sample size of the points that a Gaussian is fitted to
NUM_POWERS = 12
CHUNK = 2**13  # points that are decoded together
NEAR = 0.9  # share of the proposal that is not p(z)
SMALLEST_VARIANCE = 1e-8
NUM_EXAMPLES = 100
Curves = dict[str, Points]  # of one training, by metric: those of SPLITS


class MarginalCurve(CurveAtEpochs):
    """Logs log p(x) of the first training and test examples, which `integrated` estimates.

    Args:
        num_examples: how many of each.
    """

    def __init__(self, num_examples: int = NUM_EXAMPLES) -> None:
        self.num_examples = num_examples

    def measure(self, module: VAEModule) -> dict[str, float]:
        return marginals(module.vae, module.data, self.num_examples)


def marginals(vae: VAE, data: ImageData, num_examples: int) -> dict[str, float]:
    """Return the mean log p(x) of the first training and test examples, in nats."""
    return {
        name: integrated(vae, first_examples(data, split, num_examples)).mean().item() for split, name in SPLITS.items()
    }


@torch.no_grad()
def integrated(vae: VAE, x: Tensor, num_points: int = NUM_POINTS) -> Tensor:
    """Return log p(x) of each example under a Bernoulli decoder and p(z) = N(0, I), by adaptive importance sampling.

    No encoder is needed. The first points are those of a Sobol sequence of p(z). Then, in each of `ROUNDS` rounds, a
    Gaussian is fitted to the weighted points of an example, and new points are drawn from it and from p(z); the last
    ones give the estimate. It suits few latent dimensions.

    Args:
        vae: the model.
        x: examples, `[n, *event_shape]`.
        num_points: points of each round for each example.
    """
    z = sobol_normal(vae.latent_dim, NUM_FIRST, 0).to(x)
    log_weights = torch.cat([log_likelihoods(vae, x, part) for part in z.split(CHUNK)], 1)  # [n, points]
    z = z.expand(len(x), -1, -1)
    for number in range(1, ROUNDS + 1):
        noise = sobol_normal(vae.latent_dim, num_points, number).to(x)
        z, log_weights = weighted(vae, x, fitted(z, log_weights), noise)
    return log_weights.double().logsumexp(1) - math.log(num_points)


def fitted(z: Tensor, log_weights: Tensor) -> td.MultivariateNormal:
    """Return for each example a Gaussian with the mean of its weighted points and twice their covariance.

    Weights are raised to a power, 1 or 1/2 or 1/4 and so on, such that the effective sample size is at least `FEWEST`.
    """
    powers = 2.0 ** -torch.arange(NUM_POWERS).to(z)
    weights = (log_weights * powers.view(-1, 1, 1)).softmax(2)  # [powers, n, points]
    enough = weights.square().sum(2) <= 1 / FEWEST
    weights = weights[enough.int().argmax(0), torch.arange(len(z))]
    loc = torch.einsum("np,npi->ni", weights, z)
    centred = z - loc.unsqueeze(1)
    covariance = torch.einsum("np,npi,npj->nij", weights, centred, centred)
    return td.MultivariateNormal(loc, 2 * covariance + SMALLEST_VARIANCE * torch.eye(z.shape[-1]).to(z))


def weighted(vae: VAE, x: Tensor, near: td.MultivariateNormal, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return points from `near`, and a tenth from p(z) so that another mode counts too, with their log-weights.

    Args:
        vae, x: see `integrated`.
        near: a Gaussian for each example.
        noise: points of N(0, I), `[points, latent_dim]`.
    """
    prior = td.MultivariateNormal(torch.zeros(vae.latent_dim).to(x), torch.eye(vae.latent_dim).to(x))
    count = int(NEAR * len(noise))
    drawn_near = near.loc.unsqueeze(1) + noise[:count] @ near.scale_tril.mT
    z = torch.cat([drawn_near, noise[count:].expand(len(x), -1, -1)], 1)  # [n, points, latent_dim]
    shares = [math.log(each / len(noise)) for each in (count, len(noise) - count)]
    log_q = torch.logaddexp(near.log_prob(z.transpose(0, 1)).T + shares[0], prior.log_prob(z) + shares[1])
    log_p = torch.stack([log_likelihoods(vae, one[None], own)[0] for one, own in zip(x, z, strict=True)])
    return z, log_p + prior.log_prob(z) - log_q


def log_likelihoods(vae: VAE, x: Tensor, z: Tensor) -> Tensor:
    """Return log p(x|z) of each example at each point, `[n, points]`."""
    logits = cast(IndependentBernoulli, vae.decode(z)).base_dist.logits.flatten(1)
    return x.flatten(1) @ logits.T - softplus(logits).sum(1)


def sobol_normal(dimensions: int, num_points: int, seed: int) -> Tensor:
    """Return the points of a scrambled Sobol sequence, mapped to N(0, I)."""
    uniform = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed).draw(num_points, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))


class MarginalLikelihoods(Reproduction):
    """Figure 3, with few and with all training data. Monte Carlo EM visits every example in each step: few only.

    A budget has the `overrides` of the model, `seeds`; `sizes`, pairs of a number of training examples and its epochs;
    for Monte Carlo EM `em_size`, `em_steps` and `em_lr`; and `num_checked` examples for the estimator of appendix D.
    """

    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        rows, panels = [], {}
        for size, epochs in budget["sizes"]:
            common = f"{budget['overrides']} +data.train_limit={size} trainer.max_epochs={epochs}"
            common += " +callbacks.marginal._target_=vaelab.reproducing.MarginalCurve"
            trained = lab.sweep(f"{size}", METHODS, common, budget["seeds"])
            found = {m: [{n: curve(run, n) for n in SPLITS.values()} for run in runs] for m, runs in trained.items()}
            if size == budget["em_size"]:
                found[EM] = [expectation_maximisation(run, budget) for run in trained["AEVB"]]
            title = f"N_train = {size:,}"
            panels[title] = {
                f"{method}, {split}": mean([curves[name] for curves in several])
                for method, several in found.items()
                for split, name in SPLITS.items()
            }
            lab.curves |= {f"{title}, {label}": points for label, points in panels[title].items()}
            ends = {method: [curves[SPLITS["test"]][-1][1] for curves in several] for method, several in found.items()}
            quantity = f"log p(x) of the first {NUM_EXAMPLES} test digits"
            rows += [Row(title, f"{quantity}, {method}, nats", values) for method, values in ends.items()]
            better = [a - b for a, b in zip(ends["AEVB"], ends["wake-sleep"], strict=True)]
            rows.append(Row(title, "AEVB above wake-sleep, nats", better, claimed_above=0.0))
            gaps = [excesses(run, budget["num_checked"]) for run in trained["AEVB"]]
            for name in gaps[0]:
                values = [each[name] for each in gaps]
                rows.append(Row(title, f"{name} minus the integral, AEVB, nats", values, digits=3))
        lab.draw("log p(x) against training samples evaluated, in nats per example", draw([panels]))
        return rows


def excesses(run: Run, num_examples: int) -> dict[str, float]:
    """Return by how much other numbers exceed the integral, on average over the first test digits, in nats."""
    x = first_examples(run.data, "test", num_examples)
    integral = integrated(run.vae, x)
    seed_draws("cpu", "evaluate", 0)
    appendix_d = HarmonicMean(num_chains=16, num_draws=30, num_burn_in=40, num_leapfrogs=5)(run.vae, x)
    found = {
        "estimator of appendix D": appendix_d.log_likelihood,
        "a quarter of the points": integrated(run.vae, x, NUM_POINTS // 4),
    }
    # an example none of whose draws lie in the estimator's region has no estimate
    return {name: (value - integral).nanmean().item() for name, value in found.items()}


def expectation_maximisation(like: Run, budget: Mapping[str, Any]) -> Curves:
    """Train a model like that of a run by Monte Carlo EM, with its seed and its data, or read what was found before."""
    seed, steps, rate = like.config["seed"], budget["em_steps"], budget["em_lr"]
    numbers = f"steps_{steps}-lr_{rate}-examples_{NUM_EXAMPLES}-points_{NUM_POINTS}"
    file = like.path / f"monte_carlo_em-{numbers}.json"  # the run's folder has the identity of the model and the data
    if not file.exists():
        write_atomically(file, json.dumps(curves_of_em(like, seed, steps, rate)))
    return json.loads(file.read_text(encoding="utf-8"))


def curves_of_em(like: Run, seed: int, num_steps: int, lr: float) -> Curves:
    """Train by Monte Carlo EM. The x-axis counts all evaluations of p(x|z), in E-steps too."""
    vae, data = deepcopy(like.vae).requires_grad_(), like.data
    seed_draws("cpu", "initialize", seed)
    normal_init(vae, lambda: torch.zeros(0), std=0.01)
    seed_draws("cpu", "pixels", seed)
    images = data.draw("train", range(data.num_train))
    curves: Curves = {name: [] for name in SPLITS.values()}
    for step, progress in enumerate(monte_carlo_em(vae, images, num_steps, lr, seed), start=1):
        if step in drawn(step) or step == num_steps:
            for name, value in marginals(vae, data, NUM_EXAMPLES).items():
                curves[name].append([float(progress.samples_evaluated), value])
    return curves
