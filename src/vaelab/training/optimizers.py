"""Optimisers and gradients of publications, where they differ from those of PyTorch."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam


def adam_from(parameters: Iterable[Any], second_moment: float, **options: Any) -> Adam:
    """Make an Adam whose second moments begin at `second_moment` instead of 0, so that its first steps are small.

    The code of Burda, Grosse & Salakhutdinov (2016), github.com/yburda/iwae, begins them at 1, and follows the gradient
    g of a *sum* over 20 examples, up the bound:

    `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
    `theta += lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + 1e-4)`.

    Of the gradient of a mean, this is Adam with `eps = 1e-4 / 20` and `second_moment = 1 / 20^2`. Two differences
    remain. PyTorch adds `eps` after v is divided by its bias correction, which changes a step by a share of at most
    `eps / sqrt(second_moment)`, 1e-4, and no longer after a few thousand steps. Their code also moves theta by the m
    and v of the step before.

    Args:
        parameters: what `torch.optim.Adam` optimises.
        second_moment: where the second moments begin.
        options: further arguments of `torch.optim.Adam`.

    Raises:
        ValueError: `second_moment` is negative.

    Examples:
        >>> weight = torch.zeros(1, requires_grad=True)
        >>> weight.grad = torch.ones(1)
        >>> adam_from([weight], second_moment=1.0, lr=0.1).step()
        >>> f"{weight.item():.4f}"
        '-0.0032'
    """
    if not second_moment >= 0:
        raise ValueError(f"optimizer.second_moment must be 0 or more, found {second_moment}")
    optimizer = Adam(parameters, **options)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            on_device = group["fused"] or group["capturable"]
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if on_device else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.full_like(parameter, second_moment),
                **({"max_exp_avg_sq": torch.zeros_like(parameter)} if group["amsgrad"] else {}),
            }
    return optimizer


def unit_gradients(parameters: Iterable[Tensor]) -> None:
    """Scale the gradient of each parameter tensor to norm 1: `g / (||g|| + 1e-7)`.

    The code of Tomczak & Welling (2018) trains with Adam on such normalised gradients. A weight and its bias are two
    tensors, each with a norm of its own.

    Examples:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> unit_gradients([weight])
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    for gradient in [parameter.grad for parameter in parameters if parameter.grad is not None]:
        gradient.div_(gradient.norm() + 1e-7)
