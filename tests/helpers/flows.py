"""Flows whose density is known."""

import torch
from torch import Tensor, nn

from vaelab.distributions import AutoregressiveLayer


def shear(layer: AutoregressiveLayer, matrix: Tensor) -> None:
    """Make an affine layer with 2 hidden units for each element `y = x + matrix x`, for a strictly lower matrix.

    Two ReLU units give x_j = relu(x_j) - relu(-x_j). Those that see x_j are the units 2 j + 2 and 2 j + 3.
    """
    hidden, last = layer.network[0], layer.network[-1]
    with torch.no_grad():
        for parameter in layer.network.parameters():
            parameter.zero_()
        for j in range(len(matrix) - 1):
            for unit, sign in ((2 * j + 2, 1), (2 * j + 3, -1)):
                hidden.weight[unit, j] = sign
                last.weight[::2, unit] = sign * matrix[:, j]


def bent(layers: nn.ModuleList, std: float = 0.5) -> nn.ModuleList:
    """Give the layers random weights, because new ones are the identity."""
    for parameter in layers.parameters():
        nn.init.normal_(parameter, std=std)
    return layers
