"""The normal distribution with correlated elements."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor

from vaelab.randomness import standard_normal


class MultivariateNormal(td.MultivariateNormal):
    """`torch.distributions.MultivariateNormal`, with a joint method for samples and their densities.

    Each of several stacked models draws as it would alone.

    Its KL to independent normals has a closed form:
    `KL(N(m, S) || N(0, I)) = (tr S + |m|^2 - d - log det S) / 2` (Rasmussen & Williams 2006, equation A.23).

    Examples:
        >>> q = MultivariateNormal(torch.zeros(2), scale_tril=torch.eye(2))
        >>> p = td.Independent(td.Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> td.kl_divergence(q, p)
        tensor(0.)
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def rsample_and_log_prob(self, sample_shape: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Draw z, and return z and log q(z) in nats."""
        return self.at(standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc))

    def at(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the z that standard normal noise makes, and log q(z) in nats, without solving for the noise."""
        tril = self._unbroadcasted_scale_tril
        z = self.loc + torch.einsum("...ij,...j->...i", tril, noise)  # makes no copy of L for each sample
        log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return z, -0.5 * (noise.square().sum(-1) + noise.shape[-1] * math.log(2 * math.pi)) - log_det


@td.kl.register_kl(td.MultivariateNormal, td.Independent)
def _kl_to_independent(q: td.MultivariateNormal, p: td.Independent) -> Tensor:
    """Return the KL to independent normals, in units of whose standard deviations q is measured."""
    if not isinstance(p.base_dist, td.Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    variance = p.base_dist.scale.square()
    distance = ((q.loc - p.base_dist.loc).square() + q.variance) / variance
    log_scales = q._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * (distance - 1 + variance.log()) - log_scales).sum(-1)
