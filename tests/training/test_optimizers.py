"""The optimisers of publications, against their formulas."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from vaelab.runs.configuration import CONF
from vaelab.training import adam_from, unit_gradients

BATCH = 20


def options() -> dict[str, Any]:
    shipped = OmegaConf.to_container(OmegaConf.load(Path(CONF, "optimizer", "adam_from.yaml")))
    assert isinstance(shipped, dict)
    return {str(name): value for name, value in shipped.items() if not str(name).startswith("_")}


def gradients(steps: int = 10) -> Tensor:
    """Gradients of a mean over the batch."""
    return torch.randn(steps, 7, generator=torch.Generator().manual_seed(0))


def parameter() -> Tensor:
    return torch.linspace(-1, 1, 7).requires_grad_()


def moved(optimizer: torch.optim.Optimizer, weight: Tensor, steps: Tensor) -> Tensor:
    for weight.grad in steps:
        optimizer.step()
    return weight.detach()


def test_adam_from_is_the_published_update_of_summed_gradients() -> None:
    weight = parameter()
    found = moved(adam_from([weight], **options()), weight, gradients()) - parameter().detach()
    theta, m, v = torch.zeros(7).double(), torch.zeros(7).double(), torch.ones(7).double()
    for t, mean in enumerate(gradients().double(), start=1):
        g = -BATCH * mean  # of the bound, which they maximise
        m, v = 0.99 * m + 0.01 * g, 0.999 * v + 0.001 * g**2
        theta += 0.001 * math.sqrt(1 - 0.999**t) / (1 - 0.99**t) * m / (v.sqrt() + 1e-4)
    torch.testing.assert_close(found.double(), theta, rtol=2e-4, atol=1e-7)  # eps and its bias correction


@pytest.mark.parametrize("more", [{}, {"fused": False}, {"fused": False, "amsgrad": True}], ids=str)
def test_the_state_has_the_format_of_adam(more: dict[str, Any]) -> None:
    ours, theirs = parameter(), parameter()
    optimizer = adam_from([ours], **options() | more)
    other = torch.optim.Adam([theirs], fused=more.get("fused", True), amsgrad="amsgrad" in more)
    moved(other, theirs, gradients(1))
    assert type(optimizer) is torch.optim.Adam
    state, expected = optimizer.state[ours], other.state[theirs]
    assert {name: (t.dtype, t.shape) for name, t in state.items()} == {
        name: (t.dtype, t.shape) for name, t in expected.items()
    }


def test_a_resumed_adam_from_goes_on_exactly() -> None:
    whole, part = parameter(), parameter()
    through = moved(adam_from([whole], **options()), whole, gradients())
    first = adam_from([part], **options())
    moved(first, part, gradients()[:4])
    again = adam_from([part], **options())
    again.load_state_dict(first.state_dict())
    assert torch.equal(moved(again, part, gradients()[4:]), through)


def test_a_negative_second_moment_is_refused() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.second_moment must be 0 or more, found -1"):
        adam_from([parameter()], second_moment=-1)


def test_unit_gradients_leave_a_zero_and_a_missing_gradient() -> None:
    zero, missing, other = parameter(), parameter(), parameter()
    zero.grad, other.grad = torch.zeros(7), gradients(1)[0]
    unit_gradients([zero, missing, other])
    assert missing.grad is None
    assert zero.grad.tolist() == [0] * 7
    torch.testing.assert_close(other.grad, gradients(1)[0] / math.sqrt(float((gradients(1) ** 2).sum())))
