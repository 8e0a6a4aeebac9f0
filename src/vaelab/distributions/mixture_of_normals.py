"""Mixtures of diagonal normal distributions."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from vaelab.distributions.normal import Normal
from vaelab.randomness import standard_normal


class DiagonalMixture(td.MixtureSameFamily):
    """The mixture `p(z) = sum_k pi_k N(z; mu_k, diag(sigma_k^2))` over vectors, whose density is cheap for large K.

    The squares expand into matrix products: with the precisions `t_k = 1 / sigma_k^2`,
    `sum_i t_ki (z_i - mu_ki)^2 = sum_i t_ki z_i^2 - 2 sum_i t_ki mu_ki z_i + sum_i t_ki mu_ki^2`. No tensor has K times
    d elements for each z. The terms cancel, so they are computed in float64.

    Args:
        logits: of the weights pi, `[*batch, K]`.
        loc, scale: mu and sigma, `[*batch, K, d]`.

    Examples:
        >>> p = DiagonalMixture(torch.zeros(500), torch.randn(500, 40), torch.ones(500, 40))
        >>> p.log_prob(p.sample((100,))).shape
        torch.Size([100])
    """

    support = constraints.real_vector  # type: ignore[override]

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        self.normals = Normal(loc, scale, validate_args=False)
        weights = td.Categorical(logits=logits, validate_args=False)
        super().__init__(weights, td.Independent(self.normals, 1, validate_args=False), validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "DiagonalMixture":
        logits = self.mixture_distribution.logits
        parameters = ((logits, 1), (self.normals.loc, 2), (self.normals.scale, 2))
        return type(self)(*(part.expand(*batch_shape, *part.shape[-own:]) for part, own in parameters))

    def log_prob(self, x: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(x.shape[:-1], self.batch_shape)
        batch = shape[len(shape) - len(self.batch_shape) :]
        z = x.double().expand(*shape, -1).reshape(-1, *batch, *self.event_shape)
        loc, scale = (part.double().expand(*batch, -1, -1) for part in (self.normals.loc, self.normals.scale))
        precision = scale.reciprocal().square()
        squares = _products(z.square(), precision) - 2 * _products(z, precision * loc)
        constant = (precision * loc.square() + 2 * scale.log()).sum(-1) + math.log(2 * math.pi) * loc.shape[-1]
        of_components = self.mixture_distribution.logits - (squares + constant) / 2
        dtype = torch.promote_types(x.dtype, self.normals.loc.dtype)
        return of_components.logsumexp(-1).reshape(shape).to(dtype)


def _products(z: Tensor, of_components: Tensor) -> Tensor:
    """Return the product of each vector z, `[n, *batch, d]`, with each of `[*batch, K, d]`, as `[n, *batch, K]`."""
    return torch.einsum("n...d,...kd->n...k", z, of_components)


class MixtureOfNormals(DiagonalMixture):
    """A `DiagonalMixture` whose samples carry a gradient.

    Let `S_i(z) = P(Z_i <= z_i | z_1 .. z_(i-1))`. A change of the parameters moves z such that S(z) stays as it is:
    `dz = -(dS/dz)^-1 dS`: Graves (2016); Figurnov, Mohamed & Mnih (2018). With the component's probability given the
    first elements, `w_ki ~ pi_k prod_(j < i) N(z_j; mu_kj, sigma_kj^2)`, and `a_ki = (z_i - mu_ki) / sigma_ki`:

    - `S_i = sum_k w_ki Phi(a_ki)`,
    - `dS_i/dz_i = q(z_i | z_1 .. z_(i-1)) = sum_k w_ki phi(a_ki) / sigma_ki`,
    - `dS_i/dz_j = -sum_k w_ki (Phi(a_ki) - S_i) a_kj / sigma_kj` for j < i, and 0 for j > i.

    Where almost no mass lies between the components, hardly any sample carries the gradient of the weights, because z
    must cross the gap; the weights then stay as they are.

    Args:
        logits, loc, scale: see `DiagonalMixture`.

    Examples:
        >>> q = MixtureOfNormals(torch.zeros(5, 4), torch.randn(5, 4, 2), torch.ones(5, 4, 2))
        >>> q.rsample((3,)).shape
        torch.Size([3, 5, 2])
    """

    has_rsample = True

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            noise = standard_normal(shape, self.normals.loc)
            share = torch.special.ndtr(standard_normal(shape[:-1], self.normals.loc)).unsqueeze(-1)
            ends = self.mixture_distribution.probs.cumsum(-1)
            # times the last end, which may differ from 1 by rounding, so that no component of weight 0 is chosen
            chosen = (share * ends[..., -1:] > ends).sum(-1)[..., None, None].expand(*shape[:-1], 1, shape[-1])
            of_all = [part.expand(*shape[:-1], *part.shape[-2:]) for part in (self.normals.loc, self.normals.scale)]
            loc, scale = [part.gather(-2, chosen).squeeze(-2) for part in of_all]
            return loc + scale * noise

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        z = self.sample(sample_shape)
        return self.attached(z) if torch.is_grad_enabled() else z

    def attached(self, z: Tensor) -> Tensor:
        """Return z, `[*samples, *batch, d]`, with the gradient of a sample that has this value."""
        at = z.unsqueeze(-2)  # [*samples, *batch, 1, d]
        log_density = self.normals.log_prob(at)
        before = self.mixture_distribution.logits.unsqueeze(-1) + log_density.cumsum(-1) - log_density
        weights = before.softmax(-2)
        a = (at - self.normals.loc) / self.normals.scale
        with torch.no_grad():
            on_the_right = (weights * torch.special.ndtr(a)).sum(-2, keepdim=True) > 0.5
            sign = 1 - 2 * on_the_right.to(a.dtype)
            density = (weights * log_density.exp()).sum(-2, keepdim=True)
        # Phi, on the right minus 1, because S near 1 has no digits left; by erfc, because ndtr has none in a tail
        tails = 0.5 * sign * torch.erfc(-sign * a / math.sqrt(2))
        cdf = (weights * tails).sum(-2, keepdim=True)
        moved = ((cdf - cdf.detach()) / density).squeeze(-2)
        with torch.no_grad():
            # each row of dS/dz is divided by its diagonal, which may be tiny
            rows = (weights * (tails - cdf) / density).mT @ (-a / self.normals.scale)
        return z - torch.linalg.solve_triangular(
            rows.tril(-1), moved.unsqueeze(-1), upper=False, unitriangular=True
        ).squeeze(-1)
