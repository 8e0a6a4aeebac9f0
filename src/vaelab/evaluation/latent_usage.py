"""How a posterior q(z|x) uses the latent over a split: active units, mutual information, aggregate posterior."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from vaelab.distributions import domain, mean_if_any, sample_and_log_prob, scale_is_lost
from vaelab.errors import PointMassError
from vaelab.objectives import kl_per_dimension
from vaelab.vae import VAE, Image

ACTIVE = 0.01  # smallest variance of an active unit's posterior mean: Burda, Grosse & Salakhutdinov (2016), section 5.2
GROUP = 100  # number of blocks whose densities are computed together
LATENT_VALUES = ("log_posterior", "log_aggregate", "log_prior", "posterior_mean", "kl_per_dimension")
Codes = Float[Tensor, "batch latent_dim"]
LogDensity = Callable[[Codes], Float[Tensor, "batch examples"]]


class Aggregate:
    """The aggregate posterior of a split, `q(z) = 1/N sum_n q(z|x_n)`, from the posteriors of blocks of examples."""

    def __init__(self, posteriors: Sequence[td.Distribution]) -> None:
        self.num_examples = sum(q.batch_shape[0] for q in posteriors)
        normals = [normal for q in posteriors if (normal := diagonal_normal(q)) is not None]
        if len(normals) == len(posteriors):
            starts = range(0, len(normals), GROUP)
            self.log_densities = [_log_density_of_normals(normals[start : start + GROUP]) for start in starts]
        else:
            self.log_densities = [lambda z, q=q: q.log_prob(z.unsqueeze(1)).double() for q in posteriors]

    def log_prob(self, z: Codes) -> Float[Tensor, " batch"]:
        """Return log q(z) in nats."""
        log_sums = [log_density(z).logsumexp(1) for log_density in self.log_densities]
        return torch.stack(log_sums).logsumexp(0) - math.log(self.num_examples)


def aggregate_of(vae: VAE, blocks: Iterable[Tensor]) -> Aggregate | None:
    """Return the aggregate posterior of blocks of examples, or None where its N^2 densities would take hours."""
    posteriors = []
    for x in blocks:
        posteriors.append(vae.encode(x))
        if getattr(posteriors[0], "has_slow_density", False):
            return None
    return Aggregate(posteriors)


def diagonal_normal(q: td.Distribution) -> td.Normal | None:
    """Return the elements of q if it is a batch of diagonal Gaussians, else None."""
    if not isinstance(q, td.Independent) or not len(q.batch_shape) == len(q.event_shape) == 1:
        return None
    return q.base_dist if isinstance(q.base_dist, td.Normal) else None


def _log_density_of_normals(normals: list[td.Normal]) -> LogDensity:
    """Return a function that computes the log-densities of diagonal Gaussians by two matrix products in float64."""
    loc = torch.cat([normal.loc for normal in normals]).double()
    scale = torch.cat([normal.scale for normal in normals]).double()
    precision = scale.square().reciprocal()
    linear, quadratic = (loc * precision).T, -precision.T / 2
    constant = -(loc.square() * precision).sum(1) / 2 - scale.log().sum(1)
    constant = constant - loc.shape[1] / 2 * math.log(2 * math.pi)
    return lambda z: z.double() @ linear + z.double().square() @ quadratic + constant


def latent_values(vae: VAE, x: Image, aggregate: Aggregate | None) -> dict[str, Tensor]:
    """Return the per-example values that `latent_summary` needs, in nats, at one sample z of each posterior."""
    q, prior = vae.encode(x), vae.latent_prior()
    z, log_posterior = sample_and_log_prob(q)
    broken = ~log_posterior.isfinite()
    if domain(q) in (None, constraints.real):
        with suppress(NotImplementedError):  # a flow has no mean
            broken |= scale_is_lost(q.mean, q.stddev)
    if broken.any():
        raise PointMassError(
            f"the posterior q(z|x) of {int(broken.sum())} of {len(x)} examples has no density at its own sample, "
            "probably because its scale is 0, and its KL is not finite: give the encoder's head a min_scale"
        )
    values = {"log_posterior": log_posterior, "log_prior": prior.log_prob(z)}
    if aggregate is not None:
        values["log_aggregate"] = aggregate.log_prob(z)
    if (mean := mean_if_any(q)) is not None:
        values["posterior_mean"] = mean
    if (kl := kl_per_dimension(q, prior)) is not None:
        values["kl_per_dimension"] = kl
    return values


def spread_of_mean(values: Tensor) -> float:
    """Return the standard error of a mean over examples; NaN for fewer than two."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def latent_summary(columns: dict[str, Tensor]) -> dict[str, float]:
    """Return the metrics of latent usage on a split, from the `latent_values` of all its examples.

    One sample z per example gives `I_q(x; z) = E[log q(z|x) - log q(z)]` and `KL(q(z) || p(z))`. The two add up to the
    mean KL (Hoffman & Johnson 2016). The first cannot exceed log N, because q(z) is a mixture of N posteriors.
    """
    found: dict[str, float] = {}
    if "log_aggregate" in columns:
        posterior, aggregate, prior = (columns[f"log_{name}"] for name in ("posterior", "aggregate", "prior"))
        information, divergence = posterior - aggregate, aggregate - prior
        found = {
            "mutual_information": information.mean().item(),
            "mutual_information_limit": math.log(len(posterior)),
            "mutual_information_error": spread_of_mean(information),
            "marginal_kl": divergence.mean().item(),
            "marginal_kl_error": spread_of_mean(divergence),
        }
    if "posterior_mean" in columns and len(columns["posterior_mean"]) > 1:
        found["active_units"] = int((columns["posterior_mean"].var(0) > ACTIVE).sum())
        found["latent_dim"] = columns["posterior_mean"].shape[1]
    return found
