"""Initialization of the weights.

Each is a function of the model and of `draw`, which returns the first training examples: at most 2^26 numbers, more
than MNIST has. One that has loaded all weights returns True.
"""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn


def normal_init(vae: nn.Module, draw: Callable[[], Tensor], std: float) -> None:
    """Draw all weights and biases of linear and convolutional layers from N(0, std^2).

    Section 5 of Kingma & Welling (2014) writes N(0, 0.01), and does not say whether 0.01 is the variance or the
    standard deviation.

    Args:
        vae: the model, or any module.
        draw: returns training data; not needed here.
        std: the standard deviation.

    Raises:
        ValueError: `std` is not positive.

    Examples:
        >>> import torch
        >>> layer = nn.Linear(100, 100)
        >>> normal_init(layer, lambda: torch.zeros(0), std=0.01)
        >>> bool(layer.weight.abs().max() < 0.1)
        True
    """
    if not std > 0:
        raise ValueError(f"initialization.std must be positive, found {std}")
    for layer in layers_of(vae):
        for parameter in layer.parameters():
            nn.init.normal_(parameter, std=std)


def glorot_init(vae: Any, draw: Callable[[], Tensor], data_bias: bool, low: float = 0.001, high: float = 0.999) -> None:
    """Draw the weights of linear and convolutional layers as Glorot & Bengio (2010) do, and set their biases to 0.

    `W ~ U(-a, a)`, `a = sqrt(6 / (n_in + n_out))`. With `data_bias`, the bias of a Bernoulli decoder's last layer is
    `logit(clip(mean of the data, low, high))`. The code of Burda, Grosse & Salakhutdinov (2016),
    github.com/yburda/iwae, begins so.

    Args:
        vae: the model.
        draw: returns training data; called if `data_bias`.
        data_bias: whether the decoder begins at the mean of the data: call `begin_at` of its head.
        low, high: the limits of the mean.

    Raises:
        ValueError: `low` and `high` are not in order inside (0, 1), or the decoder's head has no `begin_at`, which
            `data_bias` needs.
    """
    if not 0 < low < high < 1:
        raise ValueError(f"expected 0 < initialization.low < initialization.high < 1, found {low} and {high}")
    for layer in layers_of(vae):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if not data_bias:
        return
    head = vae.decoder.head
    if not hasattr(head, "begin_at"):
        raise ValueError(
            "initialization.data_bias=true expects a decoder's head that can begin at a mean, as Bernoulli does, found "
            f"{type(head).__name__}: type initialization.data_bias=false, or decoder=bernoulli"
        )
    head.begin_at(draw().mean(0).clamp(low, high))


def layers_of(module: nn.Module) -> Iterator[Any]:
    """Yield the linear and convolutional layers of a module."""
    return (layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd))
