"""Schedules of the learning rate: PyTorch's own, stepped when they say."""

from functools import partial
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau, StepLR

from tests.helpers.training import Fitted, by_hand, configured, fit, same
from vaelab.training.schedules import advance

PLATEAU = ("lr_schedule=plateau", "lr_schedule.scheduler.patience=0", "trainer.max_epochs=4")


def rates(fitted: Fitted) -> list[float]:
    return [value for _, value in fitted.curve("train/learning_rate")]


def stepped(scheduler: Any) -> None:
    scheduler.step()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "schedule", "when"),
    [
        (
            ("lr_schedule=decay", "lr_schedule.scheduler.step_size=1"),
            partial(StepLR, step_size=1, gamma=0.5),
            "after_epoch",
        ),
        (
            ("lr_schedule=cosine", "lr_schedule.interval=step", "lr_schedule.scheduler.T_max=40"),
            partial(CosineAnnealingLR, T_max=40),
            "after_step",
        ),
    ],
)
def test_a_schedule_is_pytorchs_in_the_loop_written_by_hand(
    overrides: tuple[str, ...], schedule: Any, when: str
) -> None:
    vae = by_hand(schedule=schedule, **{when: stepped})
    assert same(fit(*overrides, "steps_per_call=4").module.vae.state_dict(), vae.state_dict())


@pytest.mark.slow
def test_plateau_is_pytorchs_told_the_validation_bounds() -> None:
    run = fit(*PLATEAU)
    bounds = iter([bound for _, bound in run.curve("val/elbo")])
    vae = by_hand(
        epochs=4,
        schedule=partial(ReduceLROnPlateau, mode="max", threshold=0.0, threshold_mode="abs", factor=0.5, patience=0),
        after_epoch=lambda scheduler: scheduler.step(next(bounds)),
    )
    assert same(run.module.vae.state_dict(), vae.state_dict())
    assert 0.0005 in rates(run)


def test_a_negative_bound_that_falls_a_little_has_not_risen() -> None:
    schedule = instantiate(configured(*PLATEAU).lr_schedule)
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = schedule.scheduler(optimizer)
    for bound in (-100.0, -99.999, -100.004):
        assert optimizer.param_groups[0]["lr"] == 1
        advance(scheduler, bound)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_the_learning_rate_is_reported_where_a_schedule_moves_it() -> None:
    assert rates(fit("lr_schedule=decay", "lr_schedule.scheduler.step_size=1")) == [0.0005, 0.00025]
    assert rates(fit()) == []


@pytest.mark.slow
def test_only_the_steps_of_its_own_interval_move_a_rate() -> None:
    every = {
        interval: fit("lr_schedule=decay", "lr_schedule.scheduler.step_size=1", f"lr_schedule.interval={interval}",
                      "trainer.val_check_interval=5").optimizer.param_groups[0]["lr"]
        for interval in ("step", "epoch", "validation")
    }  # fmt: skip
    assert every == {name: 0.001 * 0.5**count for name, count in {"step": 30, "epoch": 2, "validation": 6}.items()}


def test_the_validation_that_max_steps_ends_with_moves_no_rate() -> None:
    by_validation = ("lr_schedule=decay", "lr_schedule.scheduler.step_size=1", "lr_schedule.interval=validation")
    assert fit(*by_validation, "trainer.max_steps=22").optimizer.param_groups[0]["lr"] == 0.0005
