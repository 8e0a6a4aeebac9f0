"""Logarithms of scales, kept where float32 can compute with the scales."""

from torch import Tensor

SMALLEST, LARGEST = -40.0, 20.0  # the logarithms of the smallest and the largest scale


def bounded_log_scale(log_scale: Tensor, power: int = 1) -> Tensor:
    """Return the logarithm of a scale to a power, moved to the nearest end of a range if it lies outside.

    Scales s lie between 4e-18 and 5e8, so that s^2, 1/s^2 and s^4 are numbers of float32; optimisers keep the last one,
    as the square of the gradient of s^2. The gradient is 1 everywhere, so that training can return to the range.
    Numbers in the range stay as they are, to the last bit; infinite ones give NaN.

    Args:
        log_scale: log s^power.
        power: 2 if `log_scale` is the logarithm of a variance.
    """
    value = log_scale.detach()
    return value.clamp(power * SMALLEST, power * LARGEST) + (log_scale - value)
