"""Scales: modules that map features to the scale of a head, sigma of a Gaussian or s of a logistic.

A density over pixels has no upper bound as sigma goes to 0, and training exploits that. A scale therefore has a floor
`min_scale`: `sigma^2 = exp(log_variance) + min_scale^2`. The floor is smooth, so the gradient does not vanish at it.
With `min_scale = 0` there is no floor but that of float32: `vaelab.distributions.bounded_log_scale`.
"""

import math

import torch
import torch.distributions as td
from torch import Tensor, nn

from vaelab.distributions import bounded_log_scale
from vaelab.heads.base import Features
from vaelab.networks import Network


class Scale(nn.Module):
    """Base class of the scales: it puts a floor under sigma, and counts how often training hits the floor.

    Args:
        network: the network before the head.
        min_scale: the floor of sigma, in units of the event.

    Raises:
        ValueError: `min_scale` is negative.
    """

    at_floor: Tensor
    counted: Tensor

    def __init__(self, network: Network, min_scale: float = 0.0) -> None:
        super().__init__()
        if not min_scale >= 0:
            raise ValueError(f"min_scale must be 0 or more, found {min_scale}")
        self.min_scale = float(min_scale)
        self.register_buffer("at_floor", torch.zeros(()), persistent=False)
        self.register_buffer("counted", torch.zeros(()), persistent=False)

    def log_variance(self, features: Features) -> Tensor:
        """Return log sigma^2 before the floor: a scalar, or `[*batch, *event_shape]`, where an axis may have size 1."""
        raise NotImplementedError

    def forward(self, features: Features) -> Tensor:
        """Return sigma: a scalar, or `[*batch, *event_shape]`, where an axis may have size 1."""
        log_variance = bounded_log_scale(self.log_variance(features), power=2)
        if self.min_scale == 0:
            return (0.5 * log_variance).exp()
        if self.training:
            with torch.no_grad():
                self.at_floor += (log_variance < 2 * math.log(self.min_scale)).float().mean()
                self.counted += 1
        return (log_variance.exp() + self.min_scale**2).sqrt()

    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        """Update running statistics from a prediction and its event. `Head.observe` calls this in training."""

    def monitors(self) -> dict[str, Tensor]:
        """Return `scale_at_floor`, the share of sigmas that the floor raised by more than 41 % since the last call."""
        if self.min_scale == 0:
            return {}
        share = self.at_floor / self.counted.clamp_min(1)
        self.at_floor.zero_()
        self.counted.zero_()
        return {"scale_at_floor": share}


class PerPixelScale(Scale):
    """A sigma for each element, `log sigma^2 = W5 h + b5`: appendix C.2 of Kingma & Welling (2014).

    With `numbers`, each element gets so many sigmas, `[*batch, *event_shape, numbers]`, such as one for each component.
    """

    def __init__(self, network: Network, min_scale: float = 0.0, numbers: int | None = None) -> None:
        super().__init__(network, min_scale)
        self.layer = network.output_layer(numbers=numbers)

    def log_variance(self, features: Features) -> Tensor:
        return self.layer(features)


class SharedScale(Scale):
    """One learnt sigma for all elements and all examples; it starts at `initial`.

    Raises:
        ValueError: `initial` is not positive.
    """

    def __init__(self, network: Network, min_scale: float = 0.0, initial: float = 0.1) -> None:
        super().__init__(network, min_scale)
        self.value = nn.Parameter(torch.tensor(_log_variance_of(initial)))  # log sigma^2

    def log_variance(self, features: Features) -> Tensor:
        return self.value


class FixedScale(Scale):
    """One sigma that is not learnt: `value`. At 1/sqrt(2), -log p(x|z) is the squared error plus a constant.

    Raises:
        ValueError: `value` is not positive.
    """

    value: Tensor

    def __init__(self, network: Network, value: float) -> None:
        super().__init__(network)
        self.register_buffer("value", torch.tensor(_log_variance_of(value)))  # log sigma^2

    def log_variance(self, features: Features) -> Tensor:
        return self.value


class OptimalScale(Scale):
    """The shared sigma that maximises a Gaussian's likelihood given the means: sigma^2 = E[(x - mu)^2].

    The expectation is a running mean: at first over all training steps so far, later over about the last
    `1 / (1 - momentum)` steps. It is a buffer, which evaluation does not change. No gradient flows through it, so the
    mean is trained as with a fixed sigma. See Rybkin et al. (2021), "Simple and Effective VAE Training with Calibrated
    Decoders", section 4.

    Raises:
        ValueError: `momentum` is outside [0, 1).
    """

    mean_square: Tensor
    observed: Tensor

    def __init__(self, network: Network, min_scale: float = 0.0, momentum: float = 0.99) -> None:
        super().__init__(network, min_scale)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), found {momentum}")
        self.momentum = momentum
        self.register_buffer("mean_square", torch.ones(()))
        self.register_buffer("observed", torch.zeros(()))

    def log_variance(self, features: Features) -> Tensor:
        return self.mean_square.clamp_min(torch.finfo(self.mean_square.dtype).tiny).log()

    @torch.no_grad()
    def observe(self, distribution: td.Distribution, event: Tensor) -> None:
        squared_residual = (event - distribution.mean).square()
        self.observed += 1
        weight = (1 / self.observed).clamp_min(1 - self.momentum)
        self.mean_square.mul_(1 - weight).add_(weight * squared_residual.mean())

    def monitors(self) -> dict[str, Tensor]:
        return super().monitors() | {"optimal_scale": self.mean_square.sqrt()}


def _log_variance_of(scale: float) -> float:
    if not scale > 0:
        raise ValueError(f"a scale must be positive, found {scale}")
    return 2 * math.log(scale)
