"""Logarithms of scales, kept where float32 can compute with the scales."""

from torch import Tensor

SMALLEST, LARGEST = -20.0, 20.0  # the logarithms of the smallest and the largest scale


def bounded_log_scale(log_scale: Tensor, power: int = 1) -> Tensor:
    """Return the logarithm of a scale to a power, moved to the nearest end of a range if it lies outside.

    Scales s lie between 2e-9 and 5e8. There float32 holds s^2, the gradient r^2 / s^3 of a log-density at a residual r
    of 1, and the square of r^2 / s^2, which optimisers keep. The gradient of the result is 1 everywhere, so that
    training can return to the range. Numbers in the range keep their bits; infinite ones give NaN.

    Args:
        log_scale: log s^power.
        power: 2 if `log_scale` is the logarithm of a variance.
    """
    value = log_scale.detach()
    return value.clamp(power * SMALLEST, power * LARGEST) + (log_scale - value)
