"""Initialization of the weights: functions of the model and a block of training data."""

from torch import Tensor, nn


def normal_init(vae: nn.Module, x: Tensor, std: float) -> None:
    """Draw all weights and biases of linear and convolutional layers from N(0, std^2).

    Section 5 of Kingma & Welling (2014) writes N(0, 0.01), and does not say whether 0.01 is the variance or the
    standard deviation.

    Args:
        vae: the model, or any module.
        x: a block of training data. Every initialization gets it; this one does not use it.
        std: the standard deviation.

    Raises:
        ValueError: `std` is not positive.

    Examples:
        >>> import torch
        >>> layer = nn.Linear(100, 100)
        >>> normal_init(layer, torch.zeros(0), std=0.01)
        >>> bool(layer.weight.abs().max() < 0.1)
        True
    """
    if not std > 0:
        raise ValueError(f"initialization.std must be positive, found {std}")
    for layer in vae.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            for parameter in layer.parameters():
                nn.init.normal_(parameter, std=std)
