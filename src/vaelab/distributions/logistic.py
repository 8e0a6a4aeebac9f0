"""The logistic distribution."""

import math
from collections.abc import Sequence

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from vaelab.distributions.intervals import log_one_minus_exp, standardised
from vaelab.randomness import standard_normal


class Logistic(td.Distribution):
    """The logistic distribution: `p(x) = exp(-y) / (s (1 + exp(-y))^2)`, `y = (x - loc) / s`.

    Its mean is `loc`, its variance `s^2 pi^2 / 3`, its cdf `sigmoid(y)`; its tails are exponential.

    Args:
        loc: the mean.
        scale: s, which is not the standard deviation.
        validate_args: as in `torch.distributions`.

    Raises:
        ValueError: a scale that is not positive, if arguments are validated.
    """

    has_rsample = True

    def __init__(self, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        return {"loc": constraints.real, "scale": constraints.positive}

    @property
    def support(self) -> constraints.Constraint:
        return constraints.real

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Logistic":
        shape = torch.Size(batch_shape)
        return Logistic(self.loc.expand(shape), self.scale.expand(shape), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * (math.pi**2 / 3)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """`loc + s logit(Phi(n))` with n from N(0, 1), the noise that stacked models can draw."""
        noise = standard_normal(self._extended_shape(torch.Size(sample_shape)), self.loc)
        # by the smaller tail, which does not round to 1; with erfc, since log_ndtr is slow under vmap
        tail = 0.5 * torch.erfc(noise.abs() / math.sqrt(2))
        return self.loc - self.scale * noise.sign() * tail.logit()

    def log_prob(self, value: Tensor) -> Tensor:
        y = (value - self.loc) / self.scale
        return logsigmoid(y) + logsigmoid(-y) - self.scale.log()

    def cdf(self, value: Tensor) -> Tensor:
        return ((value - self.loc) / self.scale).sigmoid()

    def log_mass(self, lower: Tensor, upper: Tensor) -> Tensor:
        """log P(lower < X < upper) in nats, stable however far in a tail or narrow.

        With a, b the standardised ends, `log sigmoid(b) + log sigmoid(-a) + log(1 - exp(a - b))`. Computed in float64,
        returned in the type of `loc`; arguments as `Normal.log_mass` has them.
        """
        a, b, width = standardised(self, lower, upper)
        return (logsigmoid(b) + logsigmoid(-a) + log_one_minus_exp(-width)).to(self.loc.dtype)
