"""Initial weights."""

from torch import nn


def normal_init(module: nn.Module, std: float) -> None:
    """Draws all weights and biases of the linear layers in `module` from N(0, std^2), as section 5 of the paper does.

    The paper writes N(0, 0.01) and leaves open whether 0.01 is the variance; here `std` is the standard deviation.

    Raises:
        ValueError: an `std` that is not positive.
    """
    if not std > 0:
        raise ValueError(f"initialization.std must be positive, found {std}")
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=std)
