"""Initial weights: functions of the model and of a block of training data, called once before training."""

from torch import Tensor, nn


def normal_init(vae: nn.Module, x: Tensor, std: float) -> None:
    """Draw all weights and biases of linear and convolutional layers from N(0, std^2).

    Section 5 of Kingma & Welling (2014) writes N(0, 0.01) and leaves open whether 0.01 is the variance; here `std` is
    the standard deviation.

    Args:
        vae: the model, or any module.
        x: a block of training data, as every initialization is given one; not used here.
        std: the standard deviation.

    Raises:
        ValueError: `std` is not positive.
    """
    if not std > 0:
        raise ValueError(f"initialization.std must be positive, found {std}")
    for layer in vae.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=std)
