"""Scales of a Gaussian head: modules that map features to sigma; or of a logistic head, where sigma reads s throughout.

A density over pixels has no upper bound where sigma goes to 0, and training finds that. Each scale here therefore takes
a `min_scale`, added smoothly to the variance so that gradients survive at the floor:
`sigma^2 = exp(log_variance) + min_scale^2`; with `min_scale = 0` the learnt variance is used as it is.
"""

import math

import torch
from torch import Tensor, nn

from vaelab.heads.base import Features
from vaelab.networks import Network


class Scale(nn.Module):
    """Base of the scales: a floor under `log_variance`, counted while training.

    Args:
        network: the network behind the head.
        min_scale: the floor of sigma, in units of the event.

    Raises:
        ValueError: a negative `min_scale`.
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
        """log sigma^2 before the floor; any shape that expands to `[*batch, *event_shape]`."""
        raise NotImplementedError

    def forward(self, features: Features) -> Tensor:
        """sigma, in a shape that expands to `[*batch, *event_shape]`."""
        log_variance = self.log_variance(features)
        if self.min_scale == 0:
            return (0.5 * log_variance).exp()
        if self.training:
            with torch.no_grad():
                self.at_floor += (log_variance < 2 * math.log(self.min_scale)).float().mean()
                self.counted += 1
        return (log_variance.exp() + self.min_scale**2).sqrt()

    def observe(self, squared_residual: Tensor) -> None:
        """Called in training with (event - mean)^2, whenever it is scored; for scales that follow it."""

    def monitors(self) -> dict[str, Tensor]:
        """`scale_at_floor`: the share of sigmas that the floor held up since last asked."""
        if self.min_scale == 0:
            return {}
        share = self.at_floor / self.counted.clamp_min(1)
        self.at_floor.zero_()
        self.counted.zero_()
        return {"scale_at_floor": share}


class PerPixelScale(Scale):
    """`log sigma^2 = W5 h + b5`: appendix C.2 of Kingma & Welling (2014), a second linear layer beside the mean's."""

    def __init__(self, network: Network, min_scale: float = 0.0) -> None:
        super().__init__(network, min_scale)
        self.layer = network.output_layer()

    def log_variance(self, features: Features) -> Tensor:
        return self.layer(features)


class SharedScale(Scale):
    """One learnt sigma for all elements and all examples, starting at `initial`.

    Raises:
        ValueError: an `initial` that is not positive.
    """

    def __init__(self, network: Network, min_scale: float = 0.0, initial: float = 0.1) -> None:
        super().__init__(network, min_scale)
        self.value = nn.Parameter(torch.tensor(_log_variance_of(initial)))

    def log_variance(self, features: Features) -> Tensor:
        return self.value


class FixedScale(Scale):
    """One sigma, chosen beforehand and never learnt: `value` (1/sqrt(2) makes the log-likelihood a squared error).

    Raises:
        ValueError: a `value` that is not positive.
    """

    value: Tensor

    def __init__(self, network: Network, value: float) -> None:
        super().__init__(network)
        self.register_buffer("value", torch.tensor(_log_variance_of(value)))

    def log_variance(self, features: Features) -> Tensor:
        return self.value


class OptimalScale(Scale):
    """The shared sigma that maximises a Gaussian's likelihood given the means: sigma^2 = E[(x - mu)^2].

    The expectation is a running mean over training steps (of the last `1 / (1 - momentum)` or so, all of them at
    first), kept in a buffer and frozen in evaluation. It is not differentiated, so the gradient of the mean is the
    one at a fixed sigma. Cf. Rybkin et al. (2021), "Simple and Effective VAE Training with Calibrated Decoders", §4.

    Raises:
        ValueError: a `momentum` outside [0, 1).
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
        return self.mean_square.log()

    @torch.no_grad()
    def observe(self, squared_residual: Tensor) -> None:
        self.observed += 1
        weight = (1 / self.observed).clamp_min(1 - self.momentum)
        self.mean_square.mul_(1 - weight).add_(weight * squared_residual.mean())

    def monitors(self) -> dict[str, Tensor]:
        return super().monitors() | {"optimal_scale": self.mean_square.sqrt()}


def _log_variance_of(scale: float) -> float:
    if not scale > 0:
        raise ValueError(f"a scale must be positive, found {scale}")
    return 2 * math.log(scale)
