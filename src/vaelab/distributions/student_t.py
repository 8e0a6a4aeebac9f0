"""Student's t distribution."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints


class StudentT(td.Distribution):
    """Student's t: `p(x) = Gamma((n + 1) / 2) / (Gamma(n / 2) sqrt(n pi) s) (1 + y^2 / n)^(-(n + 1) / 2)`.

    `y = (x - loc) / s`, with n degrees of freedom. The log-density is computed in float64, because the difference of
    two log-gammas in float32 is too large by 0.005 nats at n = 1e4 and by 0.9 at n = 1e8, and training would find that.

    Args:
        df: n; above 2, because the variance is infinite otherwise.
        loc: the mean.
        scale: s; the variance is `s^2 n / (n - 2)`.
        validate_args: as in `torch.distributions`.

    Examples:
        >>> StudentT(torch.tensor(1e8), torch.tensor(0.0), torch.tensor(1.0)).log_prob(torch.tensor(0.0))
        tensor(-0.9189)
    """

    arg_constraints: ClassVar = {  # type: ignore[override]
        "df": constraints.greater_than(2),
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real  # type: ignore[override]

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = torch.broadcast_tensors(df, loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale.square() * self.df / (self.df - 2)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return td.StudentT(self.df, self.loc, self.scale).sample(torch.Size(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        n, y = self.df.double(), (value.double() - self.loc) / self.scale.double()
        constant = torch.lgamma((n + 1) / 2) - torch.lgamma(n / 2) - 0.5 * (n * math.pi).log()
        log_density = constant - self.scale.double().log() - (n + 1) / 2 * torch.log1p(y.square() / n)
        return log_density.to(self.loc.dtype)
