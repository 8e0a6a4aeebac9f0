"""Fit a Gaussian to the posterior p(z|x) of each example: variational inference without an encoder."""

import math
from typing import NamedTuple

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

import vaelab.distributions as vd
from vaelab.errors import PointMassError
from vaelab.estimators.densities import Densities, Samples
from vaelab.estimators.hamiltonian import Hamiltonian

Codes = Float[Tensor, "batch latent_dim"]
PRIOR = 5.0  # number of gradients that the assumption of no correlations is worth
LARGEST = 5.0  # of the factors by which a correlated precision may differ from the diagonal one
MUCH_WORSE = 10.0  # nats of the ELBO by which correlations may seem to be worse than none, before they are given up
FROM_SAMPLES = 100  # number of samples for the moments of a posterior that has no closed form of them


class Fit(NamedTuple):
    """Diagonal Gaussians N(loc, scale^2), those that the fit began with, and the points z on the way.

    `gradient` is that of log p(x, z) at z, and `noise` made the last points.
    """

    loc: Codes
    scale: Codes
    first_loc: Codes
    first_scale: Codes
    z: Samples
    gradient: Samples
    noise: Samples

    def diagonal(self) -> td.Independent:
        """Return the diagonal Gaussians."""
        return td.Independent(vd.Normal(self.loc, self.scale, validate_args=False), 1, validate_args=False)

    def correlated(self, widening: float) -> vd.MultivariateNormal:
        """Return Gaussians with full covariances, from a linear regression of the gradients on z.

        For a Gaussian posterior, `scale * gradient = a - B u` with `u = (z - loc) / scale`; its precision is B and its
        mean is `B^-1 a`, both in units of `loc` and `scale`: Salimans & Knowles (2013). The regression is a ridge
        regression towards B = I, which is what the diagonal fit says. If there are fewer equations than unknowns in B,
        it remains I, and the mean remains `loc`. Scales are multiplied by `widening`.
        """
        parts = (self.loc, self.scale, self.z, self.gradient)
        loc, scale, z, gradient = (part.double() for part in parts)  # because squares of u may overflow in float32
        u, gradient = ((z - loc) / scale).movedim(0, 1), (scale * gradient).movedim(0, 1)  # [batch, N, latent_dim]
        identity = torch.eye(u.shape[2], dtype=u.dtype, device=u.device)
        if 2 * u.shape[1] <= u.shape[2]:
            return gaussian(self.loc, (widening * self.scale).diag_embed())
        mean_u, mean_gradient = u.mean(1, keepdim=True), gradient.mean(1, keepdim=True)
        centred, rest = u - mean_u, gradient - mean_gradient + u - mean_u
        slope = torch.linalg.solve(centred.mT @ centred + PRIOR * identity, centred.mT @ rest)
        values, vectors = torch.linalg.eigh(identity - (slope + slope.mT) / 2)
        values = values.clamp(1 / LARGEST, LARGEST).unsqueeze(1)
        precision, covariance = (vectors * values) @ vectors.mT, (vectors / values) @ vectors.mT
        mean = ((mean_gradient + mean_u @ precision) @ covariance).squeeze(1)
        tril = widening * scale.unsqueeze(2) * torch.linalg.cholesky(covariance)
        return gaussian((loc + scale * mean).to(self.loc.dtype), tril.to(self.loc.dtype))

    def proposal(self, dynamics: Hamiltonian, widening: float) -> vd.MultivariateNormal:
        """Return the correlated Gaussians, or where these are much worse, the better ones of the fitted and the first.

        Where log p(x, z) is far from quadratic, as in a model that is hardly trained, the regression makes no sense.
        """
        several = (
            self.correlated(widening),
            gaussian(self.loc, (widening * self.scale).diag_embed()),
            gaussian(self.first_loc, (widening * self.first_scale).diag_embed()),
        )
        bounds = torch.stack([elbo(q, dynamics.densities, self.noise) for q in several])
        bounds[0] += MUCH_WORSE  # for few samples do not tell which is a little worse
        best = bounds.nan_to_num(-math.inf).argmax(0)
        examples = torch.arange(len(best), device=best.device)
        loc, tril = (torch.stack([getattr(q, name) for q in several])[best, examples] for name in ("loc", "scale_tril"))
        return gaussian(loc, tril)


def gaussian(loc: Codes, scale_tril: Tensor) -> vd.MultivariateNormal:
    """Return the Gaussians N(loc, L L^T)."""
    return vd.MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)


def elbo(q: vd.MultivariateNormal, densities: Densities, noise: Samples) -> Float[Tensor, " batch"]:
    """Return the ELBO of each example in nats, a mean over the samples that the noise makes."""
    z, log_q = q.at(noise)
    return (densities.log_prior(z) + densities.log_likelihood(z) - log_q).mean(0)


@torch.no_grad()
def fit(dynamics: Hamiltonian, q: td.Distribution, num_steps: int, num_samples: int, rate: float) -> Fit:
    """Maximise the ELBO of a diagonal Gaussian for each example by itself, beginning at the moments of q.

    Adam takes `num_steps` steps on loc and log scale, from `rate` down to 0. The gradient is that of `num_samples`
    samples with its score term left out, so that it has no noise where q is the posterior: Roeder, Wu & Duvenaud
    (2017).
    """
    first, taken = moments(q), []
    loc, log_scale = first[0].clone(), first[1].log()
    optimizer = torch.optim.Adam([loc, log_scale], maximize=True)
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / num_steps)
        scale = log_scale.exp()
        noise = torch.randn(num_samples, *loc.shape, dtype=loc.dtype, device=loc.device)
        at = dynamics.at(loc + scale * noise)
        gradient = at.gradient(1).nan_to_num(0, 0, 0)  # where p(x|z) is 0
        taken.append((at.z, gradient, noise))
        of_z = gradient + noise / scale
        loc.grad, log_scale.grad = of_z.mean(0), (of_z * scale * noise).mean(0)
        optimizer.step()
    z, gradients, noise = zip(*taken, strict=True)
    return Fit(loc, log_scale.exp(), *first, torch.cat(z), torch.cat(gradients), noise[-1])


def moments(q: td.Distribution) -> tuple[Codes, Codes]:
    """Return the mean and standard deviation of each q(z|x), estimated from samples if it has no closed form of them.

    Raises:
        ValueError: z does not range over the real numbers.
        PointMassError: a standard deviation is 0, or so small beside the mean that all samples are the same.
    """
    if (found := vd.domain(q)) not in (None, constraints.real):
        raise ValueError(
            f"refined importance sampling needs a latent of real numbers, found {found}: type estimator=importance"
        )
    try:
        loc, scale = q.mean, q.stddev
    except NotImplementedError:
        z = q.sample(torch.Size([FROM_SAMPLES]))
        loc, scale = z.mean(0), z.std(0)
    if vd.scale_is_lost(loc, scale).any():
        raise PointMassError(
            "a posterior q(z|x) of scale 0 has no density and no finite KL; give the encoder's head a min_scale"
        )
    return loc, scale
