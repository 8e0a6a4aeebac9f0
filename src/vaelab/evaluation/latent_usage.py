"""How a posterior q(z|x) uses the latent over a split: active units, mutual information, aggregate posterior."""

import math
from collections.abc import Iterable

import torch
import torch.distributions as td
from jaxtyping import Float
from torch import Tensor

from vaelab.distributions import sample_and_log_prob
from vaelab.errors import PointMassError
from vaelab.objectives import kl_per_dimension
from vaelab.vae import VAE, Image

ACTIVE = 0.01  # variance of the posterior mean over examples: Burda, Grosse & Salakhutdinov (2016), section 5.2
GROUP = 100  # blocks whose densities are computed together
LATENT_VALUES = ("log_posterior", "log_aggregate", "log_prior", "posterior_mean", "kl_per_dimension")
Codes = Float[Tensor, "batch latent_dim"]


class Aggregate:
    """The aggregate posterior of a split, `q(z) = 1/N sum_n q(z|x_n)`.

    Args:
        vae: the model.
        blocks: the examples of the split, block by block.
    """

    def __init__(self, vae: VAE, blocks: Iterable[Tensor]) -> None:
        self.posteriors = [vae.encode(x) for x in blocks]
        self.num_examples = sum(q.batch_shape[0] for q in self.posteriors)
        normals = [normal for q in self.posteriors if (normal := _diagonal_normal(q)) is not None]
        groups = [normals[start : start + GROUP] for start in range(0, len(normals), GROUP)]
        self.normals = list(map(_Normals, groups)) if len(normals) == len(self.posteriors) else None

    def log_prob(self, z: Codes) -> Float[Tensor, " batch"]:
        """Return log q(z) in nats."""
        if self.normals is not None:
            log_sums = [normals.log_prob(z).logsumexp(1) for normals in self.normals]
        else:
            log_sums = [q.log_prob(z.unsqueeze(1)).double().logsumexp(1) for q in self.posteriors]
        return torch.stack(log_sums).logsumexp(0) - math.log(self.num_examples)


class _Normals:
    """Many diagonal Gaussians, whose log-densities at many points are two matrix products in float64."""

    def __init__(self, normals: list[td.Normal]) -> None:
        loc = torch.cat([normal.loc for normal in normals]).double()
        scale = torch.cat([normal.scale for normal in normals]).double()
        precision = scale.square().reciprocal()
        self.linear, self.quadratic = (loc * precision).T, -precision.T / 2
        constant = -(loc.square() * precision).sum(1) / 2 - scale.log().sum(1)
        self.constant = constant - loc.shape[1] / 2 * math.log(2 * math.pi)

    def log_prob(self, z: Codes) -> Float[Tensor, "batch examples"]:
        z = z.double()
        return z @ self.linear + z.square() @ self.quadratic + self.constant


def _diagonal_normal(q: td.Distribution) -> td.Normal | None:
    if not isinstance(q, td.Independent) or not isinstance(q.base_dist, td.Normal):
        return None
    return q.base_dist if len(q.batch_shape) == len(q.event_shape) == 1 else None


def latent_values(vae: VAE, x: Image, aggregate: Aggregate) -> dict[str, Tensor]:
    """Return the per-example values that `latent_summary` needs, in nats, at one sample z of each posterior.

    Raises:
        PointMassError: a posterior has no density.
    """
    q, prior = vae.encode(x), vae.latent_prior()
    z, log_posterior = sample_and_log_prob(q)
    broken = ~log_posterior.isfinite()
    if broken.any():
        raise PointMassError(
            f"the posterior q(z|x) of {int(broken.sum())} of {len(x)} examples has no density at its own sample, "
            "probably because its scale is 0, and its KL is not finite: give the encoder's head a min_scale"
        )
    values = {"log_posterior": log_posterior, "log_aggregate": aggregate.log_prob(z), "log_prior": prior.log_prob(z)}
    mean, kl = _mean(q), kl_per_dimension(q, prior)
    return values | {name: v for name, v in {"posterior_mean": mean, "kl_per_dimension": kl}.items() if v is not None}


def _mean(q: td.Distribution) -> Tensor | None:
    try:
        return q.mean
    except NotImplementedError:  # a flow has none
        return None


def spread_of_mean(values: Tensor) -> float:
    """Return the standard error of a mean over examples; NaN for fewer than two."""
    return values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan


def latent_summary(columns: dict[str, Tensor]) -> dict[str, float]:
    """Return metrics of how a split uses the latent, in nats except for counts.

    - `mutual_information`: `I_q(x; z) = E[log q(z|x) - log q(z)]`, from one sample z per example.
    - `mutual_information_limit`: log N, N the number of examples. The mutual information cannot exceed it, because q(z)
      is the mixture of N posteriors; near the limit, it is only a lower bound of that over all data.
    - `marginal_kl`: `KL(q(z) || p(z))`, from the same samples. It and the mutual information add up to the mean KL
      (Hoffman & Johnson 2016).
    - `mutual_information_error`, `marginal_kl_error`: standard errors of these means.
    - `active_units`: the number of dimensions, of `latent_dim`, whose posterior mean has a variance over examples above
      0.01 (Burda et al. 2016).

    Args:
        columns: `latent_values` of all examples.
    """
    posterior, aggregate, prior = (columns[f"log_{name}"] for name in ("posterior", "aggregate", "prior"))
    found = {
        "mutual_information": (posterior - aggregate).mean().item(),
        "mutual_information_limit": math.log(len(posterior)),
        "marginal_kl": (aggregate - prior).mean().item(),
    }
    found["mutual_information_error"] = spread_of_mean(posterior - aggregate)
    found["marginal_kl_error"] = spread_of_mean(aggregate - prior)
    found = {name: value for name, value in found.items() if not math.isnan(value)}
    if "posterior_mean" in columns and len(posterior) > 1:
        found["active_units"] = int((columns["posterior_mean"].var(0) > ACTIVE).sum())
        found["latent_dim"] = columns["posterior_mean"].shape[1]
    return found
