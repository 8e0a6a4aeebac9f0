"""The variances that sections 2.2 and 2.3 of Kingma & Welling (2014) speak of, measured on a trained model.

All are estimated from independent repetitions of a few draws: half the squared difference of two independent draws has
the variance as its mean, and its average over repetitions has a standard error that assumes only independence. The
variance of a gradient is the trace of its covariance, `E |g - E g|^2`.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor

from vaelab.distributions import sample_and_log_prob
from vaelab.objectives import ELBO
from vaelab.randomness import generator, seed_draws
from vaelab.vae import VAE, Image

Loss = Callable[[VAE, Image], Tensor]  # the loss of each example, `[batch]`
Gradient = tuple[Tensor, Tensor]  # of the mean loss with respect to phi and to theta, as vectors


@dataclass(frozen=True)
class Number:
    """A number, and its standard error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Comparison:
    """The variances of two estimators of one quantity, from the same noise, and the first over the second."""

    first: Number
    second: Number
    ratio: Number


@dataclass(frozen=True)
class EstimatorVariances:
    """The variances of estimators of a minibatch's bound and of its gradient, over the noise of z at fixed weights.

    Estimator A (equation 6) is `log p(x, z) - log q(z|x)`; B (equation 7) is `log p(x|z) - KL(q(z|x) || p(z))`, with
    the KL in closed form. The bound is the mean over the minibatch, in nats: equation 8 divided by N. Near
    q(z|x) = p(z|x) the bound of A has less variance than that of B, because A is then the constant log p(x).

    Attributes:
        bound: A against B.
        encoder: A against B, the gradient with respect to phi.
        decoder: A against B, the gradient with respect to theta. If p(z) has no parameters, these are equal.
        score_function: the naive gradient of section 2.2, `(log p(x, z) - log q(z|x)) grad log q(z|x)` with z held
            fixed, against that of A, both with respect to phi.
    """

    bound: Comparison
    encoder: Comparison
    decoder: Comparison
    score_function: Comparison


@dataclass(frozen=True)
class NoiseShare:
    """How much of the variance of a minibatch's gradient comes from the noise of z, and how much from its examples.

    For independent examples, the variance of the gradient with M examples and L samples of z for each is
    `(V_x + V_z / L) / M`, where V_x is the variance over x of the gradient's mean over z, and V_z is the mean over x of
    its variance over z. So the share of z's noise, `V_z / (L V_x + V_z)`, does not depend on M. What M changes is
    the total against the squared norm of the mean gradient.

    Attributes:
        batch_size: M.
        num_samples: L.
        total: the variance, with respect to all parameters, over examples and z.
        noise: the variance over z with the examples held fixed, `V_z / (L M)`.
        share: `noise / total`.
        signal: the squared norm of the mean gradient.
        relative: `total / signal`.
    """

    batch_size: int
    num_samples: int
    total: Number
    noise: Number
    share: Number
    signal: Number
    relative: Number


def estimator_variances(
    vae: VAE, images: Image, seed: int, num_repeats: int = 200, batch_size: int = 100
) -> EstimatorVariances:
    """Measure the estimators of section 2.3, with one sample of z per example (L = 1).

    Each repetition draws a minibatch, and z twice.

    Args:
        vae: the model, which does not change. It needs an encoder with a closed-form KL.
        images: examples, with pixels drawn once, at least `batch_size`.
        seed: the seed of minibatches and z.
        num_repeats: how many independent repetitions.
        batch_size: M.

    Raises:
        ValueError: there are too few images.
    """
    vae = deepcopy(vae).eval().requires_grad_()
    losses = {"A": of_elbo(closed_form=False), "B": of_elbo(closed_form=True), "naive": score_function}
    bound, encoder, decoder = ({name: [] for name in losses} for _ in range(3))
    for number, x in enumerate(minibatches(images, batch_size, num_repeats, seed)):
        for name, loss in losses.items():
            (first, of_first), (second, of_second) = [
                gradient_of(vae, loss, x, seed, number, twin) for twin in range(2)
            ]
            # the noise of an example is independent of that of others: the variance of the mean is a mean over M
            bound[name].append((first - second).square().mean() / (2 * batch_size))
            squares = [(a - b).square().sum() / 2 for a, b in zip(of_first, of_second, strict=True)]
            encoder[name].append(squares[0])
            decoder[name].append(squares[1])
    return EstimatorVariances(
        compared(bound["A"], bound["B"]),
        compared(encoder["A"], encoder["B"]),
        compared(decoder["A"], decoder["B"]),
        compared(encoder["naive"], encoder["A"]),
    )


def noise_share(
    vae: VAE, images: Image, seed: int, batch_size: int = 100, num_samples: int = 1, num_repeats: int = 200
) -> NoiseShare:
    """Measure what the noise of z adds to the variance of the gradient of estimator B.

    Section 2.3: "the number of samples L per datapoint can be set to 1 as long as the minibatch size M was large
    enough, e.g. M = 100".

    Each repetition draws z twice for one minibatch, and once for another minibatch that shares no example with it. The
    images stand for an infinite population, of which they are independent draws.

    Args:
        vae, images, seed, batch_size, num_repeats: see `estimator_variances`; here twice as many images are needed.
        num_samples: L.

    Raises:
        ValueError: there are too few images.
    """
    vae = deepcopy(vae).eval().requires_grad_()
    loss = of_elbo(closed_form=True, num_samples=num_samples)
    totals, noises, signals = [], [], []
    for number, pair in enumerate(minibatches(images, 2 * batch_size, num_repeats, seed)):
        x, other = pair.split(batch_size)
        drawn = [gradient_of(vae, loss, batch, seed, number, twin) for twin, batch in enumerate((x, x, other))]
        first, second, third = [torch.cat(gradient) for _, gradient in drawn]
        noises.append((first - second).square().sum() / 2)
        totals.append((first - third).square().sum() / 2)
        signals.append(first @ third)
    share = ratio(noises, totals)
    return NoiseShare(
        batch_size,
        num_samples,
        with_error(totals),
        with_error(noises),
        share,
        with_error(signals),
        ratio(totals, signals),
    )


def of_elbo(closed_form: bool, num_samples: int = 1) -> Loss:
    """Return minus estimator B of the bound of each example, or minus A if the KL is not in closed form."""
    objective, step = ELBO(closed_form, num_samples), torch.tensor(0)
    return lambda vae, x: objective(vae, x, step).loss


def score_function(vae: VAE, x: Image) -> Tensor:
    """Return a loss whose gradient with respect to phi is minus the naive one of section 2.2; it draws z as `ELBO`."""
    q = vae.encode(x)
    with torch.no_grad():
        z, log_q = sample_and_log_prob(q)
        bound = vae.log_likelihood(x, z) + vae.latent_prior().log_prob(z) - log_q
    return -bound * q.log_prob(z)


def gradient_of(vae: VAE, loss: Loss, x: Image, seed: int, number: int, twin: int) -> tuple[Tensor, Gradient]:
    """Return the losses and the gradient of their mean, with the noise of z that `(seed, number, twin)` names."""
    seed_draws(x.device, "evaluate", seed, number, twin)
    losses = loss(vae, x)
    phi, theta = list(vae.encoder.parameters()), [*vae.decoder.parameters(), *vae.prior.parameters()]
    gradients = torch.autograd.grad(losses.mean(), [*phi, *theta], allow_unused=True, materialize_grads=True)
    flat = [gradient.flatten() for gradient in gradients]
    return losses.detach(), (torch.cat(flat[: len(phi)]), torch.cat(flat[len(phi) :]))


def minibatches(images: Image, batch_size: int, number: int, seed: int) -> Iterator[Image]:
    """Yield so many minibatches, each of different examples that are drawn anew."""
    if len(images) < batch_size:
        raise ValueError(f"expected at least {batch_size} images, found {len(images)}: give more, or lower batch_size")
    for i in range(number):
        yield images[torch.randperm(len(images), generator=generator("shuffle", seed, i))[:batch_size]]


def with_error(values: list[Tensor]) -> Number:
    """Return the mean of independent values, with its standard error."""
    stacked = torch.stack(values).double()
    return Number(stacked.mean().item(), (stacked.std() / len(stacked) ** 0.5).item())


def ratio(above: list[Tensor], below: list[Tensor]) -> Number:
    """Return the ratio of the means of values in independent pairs, with its standard error by the delta method."""
    quotient = with_error(above).value / with_error(below).value
    residuals = [a - quotient * b for a, b in zip(above, below, strict=True)]
    return Number(quotient, with_error(residuals).standard_error / abs(with_error(below).value))


def compared(first: list[Tensor], second: list[Tensor]) -> Comparison:
    """Return the comparison of two variances, from an estimate of each in every repetition."""
    return Comparison(with_error(first), with_error(second), ratio(first, second))
