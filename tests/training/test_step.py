"""The optimiser step: many in one Lightning step, clipped, averaged over processes, interrupted; the same numbers."""

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tests.helpers.training import Fitted, assert_same_state, by_hand, configured, fit, same
from tests.helpers.two_processes import CASES, train, train_all
from vaelab.runs.build import build
from vaelab.runs.processes.distributed import launch
from vaelab.training import VAEModule
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step

LINES = {
    "by validations": (
        *("lr_schedule=plateau", "lr_schedule.scheduler.patience=0", "trainer.val_check_interval=4"),
        *("optimizer=adagrad", "trainer.max_epochs=4"),
    ),
    "by steps": (
        *("lr_schedule=warmup", "lr_schedule.scheduler.total_iters=20", "gradient_clip=norm", "weight_prior=normal"),
        *("gradient_clip.max_norm=1", "+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4"),
    ),
}


# many optimiser steps in one Lightning step


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_steps_per_call_changes_no_bit(name: str, tmp_path: Path) -> None:
    line = (*LINES[name], "trainer.max_steps=47")
    one = fit(*line, "steps_per_call=1", path=tmp_path / "1")
    assert one.module.steps == 47
    for steps in (4, 50):
        many = fit(*line, f"steps_per_call={steps}", path=tmp_path / str(steps))
        assert_same_state(many, one)
        assert many.curve("val/elbo") == one.curve("val/elbo")


def test_validations_and_checkpoints_change_no_weight(tmp_path: Path) -> None:
    line = ("trainer.val_check_interval=4", "+trainer.check_val_every_n_epoch=2", "checkpoint_every_n_steps=7")
    assert same(fit(*line, path=tmp_path).state, fit().state)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("trainer.val_check_interval=4",), [4, 8, 12, 15, 19, 23, 27, 30]),
        (("trainer.val_check_interval=8", "trainer.max_steps=20"), [8, 15, 20]),
        (("trainer.val_check_interval=8", "+trainer.check_val_every_n_epoch=2"), [23, 30]),
    ],
)
def test_validation_comes_after_so_many_steps_of_an_epoch(overrides: tuple[str, ...], expected: list[int]) -> None:
    assert [step for step, _ in fit(*overrides, "steps_per_call=3").curve("val/elbo")] == expected


def test_the_trainer_counts_optimiser_steps_and_the_loggers_samples() -> None:
    run = fit("steps_per_call=4", "trainer.max_steps=22", "trainer.val_check_interval=4")
    assert run.trainer.global_step == run.module.steps == 22
    for step, metrics in run.recorder.told:
        assert step == metrics["samples_seen"]
    assert [step for step, metrics in run.recorder.told if "train/elbo" in metrics] == [
        *(400, 800, 1200, 1438),  # the last batch of an epoch holds 38
        *(1838, 2138),
    ]


@pytest.mark.slow
def test_training_metrics_are_means_over_the_examples_of_a_call() -> None:
    one, many = fit("steps_per_call=1"), fit("steps_per_call=50")
    sizes = [100] * 14 + [38]
    for name in ("elbo", "reconstruction", "kl", "loss"):
        values = [value for _, value in one.curve(f"train/{name}")[:15]]
        mean = sum(size * value for size, value in zip(sizes, values, strict=True)) / 1438
        assert many.curve(f"train/{name}")[0] == (15, pytest.approx(mean, rel=1e-9))


def test_stacked_models_report_the_loss_with_the_weight_prior() -> None:
    prior, keys = ("weight_prior=normal", "weight_prior.scale=0.05"), [("train", seed, 0, 0, 0) for seed in (0, 1)]
    made = [build(configured(*prior, f"seed={seed}")) for seed in (0, 1) for _ in range(2)]
    steps = [Step(m.vae, m.objective, d, m.optimizer(m.vae.parameters()), m.weight_prior) for d, m in made]
    stacked, indices = StackedStep(steps[::2]), torch.arange(20)
    stacked(torch.stack([indices, indices]), 20, tuple(keys))
    for one, key in zip(steps[1::2], keys, strict=True):
        one(indices, 20, key)
    torch.testing.assert_close(stacked.sums, torch.stack([one.sums for one in steps[1::2]]), rtol=1e-5, atol=0)


# clipping


def to_unit_norm(parameters: list[torch.Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = parameter.grad / (parameter.grad.norm() + 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "clip"),
    [
        (("gradient_clip=norm", "gradient_clip.max_norm=1"), partial(clip_grad_norm_, max_norm=1.0)),
        (("gradient_clip=unit",), to_unit_norm),
        (("gradient_clip=value", "gradient_clip.clip_value=0.01"), partial(clip_grad_value_, clip_value=0.01)),
    ],
)
def test_a_clipped_training_is_the_loop_written_by_hand(overrides: tuple[str, ...], clip: Any) -> None:
    active = []

    def watched(parameters: list[torch.Tensor]) -> None:
        before = [parameter.grad.clone() for parameter in parameters]
        clip(parameters)
        active.append(any(not torch.equal(p.grad, g) for p, g in zip(parameters, before, strict=True)))

    optimizer = ("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01")  # Adam hides the scale of a gradient
    vae = by_hand(optimizer, after_backward=watched)
    assert active == [True] * 30
    assert same(fit(*overrides, *optimizer).module.vae.state_dict(), vae.state_dict())


# interruptions


class Bang(Exception):
    """What stops a training."""


def stopping_after(steps: int) -> Any:
    """For `fit(prepare=...)`: the first Lightning step after so many optimiser steps raises."""

    def prepare(module: VAEModule) -> None:
        step = module.training_step

        def stopped(chunk: Any, batch_idx: int) -> None:
            if module.steps >= steps:
                raise Bang
            step(chunk, batch_idx)

        module.training_step = stopped  # type: ignore[method-assign]

    return prepare


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fitted]:
    """`whole("by steps")`: a training that never stopped."""
    return cache(lambda name: fit(*LINES[name], "steps_per_call=2", path=tmp_path_factory.mktemp("whole")))


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_run_that_max_steps_ended_can_go_on(name: str, whole: Callable[[str], Fitted], tmp_path: Path) -> None:
    for limit in (7, 22, 45, -1):
        run = fit(*LINES[name], "steps_per_call=2", f"trainer.max_steps={limit}", path=tmp_path, resume=limit != 7)
    assert_same_state(run, whole(name))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stop", "saved"), [("by validations", 17, 15), ("by steps", 40, 36)])
def test_a_run_goes_on_from_inside_an_epoch(
    name: str, stop: int, saved: int, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    line = (*LINES[name], "steps_per_call=2", "checkpoint_every_n_steps=6")
    with pytest.raises(Bang):
        fit(*line, path=tmp_path, prepare=stopping_after(stop))
    found = []
    run = fit(*line, path=tmp_path, resume=True, prepare=lambda module: found.append(watch_start(module)))
    assert found[0][0] == saved
    assert_same_state(run, whole(name))
    assert run.curve("val/elbo") == [point for point in whole(name).curve("val/elbo") if point[0] > saved]


def watch_start(module: VAEModule) -> list[int]:
    """The counts at which the module's Lightning steps begin."""
    starts, step = [], module.training_step

    def watched(chunk: Any, batch_idx: int) -> None:
        starts.append(module.steps)
        step(chunk, batch_idx)

    module.training_step = watched  # type: ignore[method-assign]
    return starts


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(3, 4), (4, 50)])
def test_steps_per_call_may_change_inside_an_epoch(before: int, after: int, tmp_path: Path) -> None:
    line = LINES["by validations"]
    whole = fit(*line, path=tmp_path / "whole")
    with pytest.raises(Bang):
        fit(
            *(*line, f"steps_per_call={before}", "checkpoint_every_n_steps=1"),
            path=tmp_path / "parts",
            prepare=stopping_after(20),
        )
    run = fit(*line, f"steps_per_call={after}", path=tmp_path / "parts", resume=True)
    assert_same_state(run, whole)
    assert run.curve("val/elbo") == whole.curve("val/elbo")[-len(run.curve("val/elbo")) :]
    assert math.isfinite(run.module.latest)


# several processes


@pytest.mark.slow
def test_two_processes_train_as_one() -> None:
    together = launch(train_all, 2)  # in one go: it takes seconds to start them
    for case, overrides in CASES.items():
        alone, shared = train(*overrides), together[case]
        for name, value in alone["weights"].items():
            torch.testing.assert_close(shared["weights"][name], value, rtol=1e-5, atol=1e-6, msg=f"{case}: {name}")
        assert shared["counts"] == alone["counts"], case
        for (step, ours), (other, expected) in zip(shared["told"], alone["told"], strict=True):
            assert step == other, case
            assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6), case
