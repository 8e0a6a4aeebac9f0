"""The optimiser step: many in one Lightning step, clipped, averaged over processes, interrupted; the same numbers."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo.utils
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from tests.helpers.commands import ROOT
from tests.helpers.training import Fitted, assert_same_state, by_hand, fit, same
from tests.helpers.two_processes import CASES, train
from vaelab.training import VAEModule

PLATEAU = ("lr_schedule=plateau", "lr_schedule.scheduler.patience=0", "trainer.max_epochs=4")
SCHEDULES = {
    "cosine": ("lr_schedule=cosine",),
    "decay": ("lr_schedule=decay", "lr_schedule.scheduler.step_size=1"),
    "plateau": PLATEAU,
    "warmup": ("lr_schedule=warmup", "lr_schedule.scheduler.total_iters=20"),
}
CHANGES_THE_WEIGHTS = SCHEDULES | {
    "norm": ("gradient_clip=norm", "gradient_clip.max_norm=1"),
    "value": ("gradient_clip=value", "gradient_clip.clip_value=0.01"),
    "weight prior": ("weight_prior=normal", "weight_prior.scale=0.1"),
    "max_steps": ("trainer.max_steps=22",),
}
LEAVES_THE_WEIGHTS = {
    "validation inside": ("trainer.val_check_interval=4",),
    "rarer validation": ("trainer.check_val_every_n_epoch=2",),
    "checkpoints inside": ("checkpoint_every_n_steps=7",),
}
FEATURES = {
    **CHANGES_THE_WEIGHTS,
    **LEAVES_THE_WEIGHTS,
    "plateau and validation inside": (*PLATEAU, "trainer.val_check_interval=4"),
}


def added(override: str) -> str:
    return f"+{override}" if override.startswith("trainer.check_val") else override


def fitted(name: str, *overrides: str, **kwargs: Any) -> Fitted:
    return fit(*map(added, FEATURES.get(name, ())), *overrides, **kwargs)


@cache
def state(*overrides: str) -> dict[str, torch.Tensor]:
    """The state of a training without a feature."""
    return fit(*overrides).state


def exhaustive_if(exhaustive: bool) -> Any:
    return [pytest.mark.exhaustive] if exhaustive else []


# many optimiser steps in one Lightning step


RARE = ("decay", "plateau", "warmup", "value", "weight prior", "max_steps", "validation inside", "rarer validation")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=exhaustive_if(name in RARE)) for name in FEATURES])
def test_steps_per_call_changes_no_bit(name: str, tmp_path: Path) -> None:
    one = fitted(name, "steps_per_call=1", path=tmp_path / "1")
    assert one.module.steps == (22 if name == "max_steps" else 60 if "plateau" in name else 30)
    for steps in (4, 15, 50):
        many = fitted(name, f"steps_per_call={steps}", path=tmp_path / str(steps))
        assert_same_state(many, one)
        assert many.curve("val/elbo") == one.curve("val/elbo")


@pytest.mark.parametrize("name", CHANGES_THE_WEIGHTS)
def test_each_choice_changes_the_weights(name: str) -> None:
    others = PLATEAU[2:] if name == "plateau" else ()
    assert not same(fitted(name).state, state(*others))


@pytest.mark.parametrize("name", LEAVES_THE_WEIGHTS)
def test_when_it_is_validated_and_saved_changes_no_weight(name: str, tmp_path: Path) -> None:
    assert same(fitted(name, path=tmp_path).state, state())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), [15, 30]),
        (("trainer.val_check_interval=4",), [4, 8, 12, 15, 19, 23, 27, 30]),
        (("trainer.val_check_interval=5",), [5, 10, 15, 20, 25, 30]),
        (("trainer.val_check_interval=100",), [15, 30]),
        (("trainer.val_check_interval=8", "trainer.max_steps=20"), [8, 15, 20]),
        (("trainer.val_check_interval=8", "+trainer.check_val_every_n_epoch=2"), [23, 30]),
    ],
)
@pytest.mark.parametrize(
    "steps_per_call", [3, *(pytest.param(steps, marks=pytest.mark.exhaustive) for steps in (1, 50))]
)
def test_validation_comes_after_so_many_steps_of_an_epoch_and_at_its_end(
    overrides: tuple[str, ...], expected: list[int], steps_per_call: int
) -> None:
    curve = fit(*overrides, f"steps_per_call={steps_per_call}").curve("val/elbo")
    assert [step for step, _ in curve] == expected


def test_the_trainer_counts_optimiser_steps_and_the_loggers_samples() -> None:
    run = fit("steps_per_call=4", "trainer.max_steps=22", "trainer.val_check_interval=4")
    assert run.trainer.global_step == run.module.steps == 22
    for step, metrics in run.recorder.told:
        assert step == metrics["samples_seen"]
    assert [step for step, metrics in run.recorder.told if "train/elbo" in metrics] == [
        *(400, 800, 1200, 1438),  # the last batch of an epoch holds 38
        *(1838, 2138),
    ]


def test_the_training_metrics_are_means_over_the_examples_of_a_call() -> None:
    one, many = fit("steps_per_call=1"), fit("steps_per_call=50")
    sizes = [100] * 14 + [38]
    for name in ("elbo", "reconstruction", "kl", "loss"):
        values = [value for _, value in one.curve(f"train/{name}")[:15]]
        mean = sum(size * value for size, value in zip(sizes, values, strict=True)) / 1438
        assert many.curve(f"train/{name}")[0] == (15, pytest.approx(mean, rel=1e-9))


# clipping


@pytest.mark.parametrize(
    ("overrides", "clip"),
    [
        (FEATURES["norm"], partial(clip_grad_norm_, max_norm=1.0)),
        (FEATURES["value"], partial(clip_grad_value_, clip_value=0.01)),
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


# compiling


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.usefixtures("as_users_have_it")  # the checks of the tests cannot be compiled
def test_a_compiled_objective_draws_the_same_noise_and_has_the_same_bound() -> None:
    # SGD keeps rounding small, where Adam may turn the sign of a gradient near 0 into a whole step
    line = ("trainer.max_epochs=1", "optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = fit("compile=true", *line)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it was compiled
    plain = fit(*line)
    for name, value in plain.state.items():
        torch.testing.assert_close(compiled.state[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert compiled.module.latest == pytest.approx(plain.module.latest, rel=1e-6)
    assert compiled.curve("val/elbo")[0][1] == pytest.approx(plain.curve("val/elbo")[0][1], rel=1e-6)


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


LONG = ("trainer.max_epochs=4", "steps_per_call=2")
RESUMED = {name: FEATURES[name] for name in (*SCHEDULES, "norm", "plateau and validation inside", "rarer validation")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Fitted]:
    """`whole("cosine")`: a training of four epochs that never stopped."""
    return cache(lambda name: fitted(name, *LONG, path=tmp_path_factory.mktemp("whole")))


FAST = ("decay", "plateau and validation inside")


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=exhaustive_if(name not in FAST)) for name in RESUMED])
def test_a_run_that_goes_on_after_max_steps_equals_one_that_never_stopped(
    name: str, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    for limit in ("trainer.max_steps=7", "trainer.max_steps=22", "trainer.max_steps=45", "trainer.max_steps=-1"):
        run = fitted(name, *LONG, limit, path=tmp_path / "parts", resume="=7" not in limit)
    assert_same_state(run, whole(name))


STOPS = [(12, 12), (17, 15), (40, 36), (59, 57)]
FAST_STOPS = [("plateau and validation inside", 12), ("plateau and validation inside", 17)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stop", "saved"),
    [
        pytest.param(name, stop, saved, marks=exhaustive_if(stop != 40 and (name, stop) not in FAST_STOPS))
        for name in RESUMED
        for stop, saved in STOPS
    ],
)
def test_a_run_goes_on_from_inside_an_epoch(
    name: str, stop: int, saved: int, whole: Callable[[str], Fitted], tmp_path: Path
) -> None:
    more = (*LONG, "checkpoint_every_n_steps=6")
    with pytest.raises(Bang):
        fitted(name, *more, path=tmp_path / "parts", prepare=stopping_after(stop))
    found = []
    run = fitted(*(name, *more), path=tmp_path / "parts", resume=True, prepare=lambda m: found.append(watch_start(m)))
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
@pytest.mark.parametrize(
    ("before", "after"),
    [(3, 4), *(pytest.param(*pair, marks=pytest.mark.exhaustive) for pair in ((4, 50), (50, 4), (1, 7)))],
)
def test_steps_per_call_may_change_inside_an_epoch(before: int, after: int, tmp_path: Path) -> None:
    inside = ("trainer.val_check_interval=4", *PLATEAU)
    whole = fit(*inside, path=tmp_path / "whole")
    with pytest.raises(Bang):
        fit(
            *(*inside, f"steps_per_call={before}", "checkpoint_every_n_steps=1"),
            path=tmp_path / "parts",
            prepare=stopping_after(20),
        )
    run = fit(*inside, f"steps_per_call={after}", path=tmp_path / "parts", resume=True)
    assert_same_state(run, whole)
    assert run.curve("val/elbo") == whole.curve("val/elbo")[-len(run.curve("val/elbo")) :]
    assert math.isfinite(run.module.latest)


# several processes


def of_two_processes(path: Path) -> list[dict[str, Any]]:
    """What each of two processes that train together comes to, in each of `two_processes.CASES`."""
    launch = ("torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
    command = [sys.executable, "-m", *launch, "-m", "tests.helpers.two_processes", path]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [torch.load(f"{path}.{rank}", weights_only=True) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_train_as_one_and_report_the_means_over_all_examples(tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    outcomes = of_two_processes(tmp_path / "outcome")  # in one go: it takes seconds to start them
    for case, overrides in CASES.items():
        alone, (first, second) = train(overrides, world_size=1), (outcome[case] for outcome in outcomes)
        for name, value in alone["weights"].items():
            torch.testing.assert_close(first["weights"][name], value, rtol=1e-5, atol=1e-6, msg=f"{case}: {name}")
            assert torch.equal(first["weights"][name], second["weights"][name]), f"{case}: {name}"
        assert first["counts"] == second["counts"] == alone["counts"], case
        assert [step for step, _ in first["told"]] == [step for step, _ in alone["told"]], case
        for (_, ours), (_, expected) in zip(first["told"], alone["told"], strict=True):
            assert ours == pytest.approx(expected, rel=1e-5, abs=1e-6), case
        assert not any(same(alone["weights"], other) for other in seen), f"{case} changes nothing"
        seen.append(alone["weights"])
