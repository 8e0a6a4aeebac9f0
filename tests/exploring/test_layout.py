"""What a page has room for, and the contours of its plane."""

import math

import pytest
import torch
import torch.distributions as td

from vaelab.exploring.contours import contours
from vaelab.exploring.latent import Control
from vaelab.exploring.sheets import FRAMES, layout

CONTROLS = [Control(i, 1, -1, 1, whole=False, use=1, active=True, positions=101) for i in range(64)]


@pytest.mark.parametrize("side", [28, 55, 120])  # 55: as many numbers as 3x32x32
def test_sheets_have_room_for_at_least_six_examples(side: int) -> None:
    room = 3_000_000 // side**2
    controls, examples = layout(CONTROLS, FRAMES - 1, room)
    block = 1 + sum(control.positions for control in controls)
    assert examples >= 6
    assert examples * block + math.comb(examples, 2) * (FRAMES - 1) <= room
    assert all(control.positions >= 5 for control in controls)


def test_small_pictures_have_ten_examples_and_all_positions() -> None:
    controls, examples = layout(CONTROLS[:4], FRAMES - 1, room=3_000_000 // 28**2)
    assert (len(controls), controls[0].positions, examples) == (4, 15, 10)


@pytest.mark.parametrize("scale", [1e-3, 1, 100])
def test_contours_hold_their_share_at_any_scale(scale: float) -> None:
    prior = td.Independent(td.Normal(torch.tensor([0.0, 3.0]), scale), 1)
    found = contours(prior, prior.sample((4000,)), 8 * scale)
    assert set(found) == {50, 90, 99}
    for percent, (line,) in found.items():
        radius = (torch.tensor(line) - torch.tensor([0.0, 3.0])).norm(dim=-1) / scale
        expected = math.sqrt(-2 * math.log(1 - percent / 100))  # chi with two degrees of freedom
        assert radius.mean().item() == pytest.approx(expected, abs=0.15)
        assert radius.std() < 0.01


def test_contours_that_a_grid_cannot_show_are_left_out() -> None:
    points = td.Independent(td.Normal(3 * torch.randn(10, 2), 0.001), 1)
    prior = td.MixtureSameFamily(td.Categorical(torch.ones(10)), points)
    assert contours(prior, prior.sample((4000,)), 20) == {}
