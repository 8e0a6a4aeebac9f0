"""Each optimiser, scheduler and callback of PyTorch and Lightning resumes to the last bit, is refused, or fails."""

import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning.callbacks as lightning_callbacks
import torch
from pytorch_lightning import Callback
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from tests.helpers.commands import (
    FAILURE,
    USAGE,
    Outcome,
    assert_one_line,
    assert_same_weights,
    fast,
    only_run,
    results,
    run_main,
    status,
)
from tests.helpers.training import interrupting
from vaelab import train
from vaelab.runs import rehearsal


def classes(module: Any, base: type) -> list[type]:
    """Return the public classes of a module that are derived from `base`."""
    found = {cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, base) and cls is not base}
    return sorted((cls for cls in found if not cls.__name__.startswith("_")), key=lambda cls: cls.__name__)


# for arguments without a default, by their names
GIVEN: dict[str, Any] = {
    **{"gamma": 0.5, "step_size": 1, "milestones": "[1,20]", "T_max": 30, "T_0": 7, "base_lr": 0.001, "max_lr": 0.01},
    **{"lr_lambda": "{_target_: hydra.utils.get_method, path: tests.runs.test_resuming_matrix.halved}"},
    **{"schedulers": "[{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1}]"},
    **{"monitor": "val/elbo", "swa_lrs": 0.01, "pruning_fn": "l1_unstructured", "scheduling": "{0:1}"},
    **{"dirpath": "elsewhere", "batch_size_fn": "{_target_: hydra.utils.get_method, path: builtins.id}"},
}
# for arguments whose default leaves them without effect, or out of a run of two epochs
CHANGED = {"total_steps": 30, "unfreeze_backbone_at_epoch": 1, "duration": "00:01:00:00", "every_n_train_steps": 4}
REFUSED = {  # and a part of the reason
    **{"LBFGS": "closure", "Muon": "only supports 2D parameters", "SparseAdam": "does not support dense gradients"},
    **{"ChainedScheduler": "got multiple values", "SequentialLR": "should have `optimizer` as its attribute"},
    **{
        "BatchSizeFinder": "the batch size",
        "GradientAccumulationScheduler": "must be texts",
        "ModelPruning": "other weights",
    },
    **dict.fromkeys(["ProgressBar", "RichProgressBar", "TQDMProgressBar"], "enable_progress_bar"),
}
FAILING = {  # and what the module lacks
    **{"BackboneFinetuning": "backbone", "BaseFinetuning": "NotImplementedError"},
    **{"LearningRateFinder": "learning_rate", "SpikeDetection": "loss"},
    **({} if find_spec("psutil") else {"DeviceStatsMonitor": "psutil"}),
}


def halved(epoch: int) -> float:
    return 0.5**epoch


def arguments(node: str, cls: type) -> list[str]:
    """Return overrides that choose a class, with lists where it has tuples."""
    found = [f"{node}._target_={cls.__module__}.{cls.__name__}"]
    for name, parameter in inspect.signature(cls).parameters.items():
        default = parameter.default
        if parameter.kind != parameter.VAR_KEYWORD and name not in ("params", "optimizer"):
            if default == "min":
                found.append(f"++{node}.{name}=max")  # because a higher bound is better
            elif default is parameter.empty or name in CHANGED:
                found.append(f"++{node}.{name}={CHANGED[name] if name in CHANGED else GIVEN[name]}")
            elif isinstance(default, tuple) and default:
                found.append(f"++{node}.{name}={json.dumps(default)}")
    return found


def outcome_of(line: list[str], cwd: Path) -> tuple[str, str]:
    """Train in one go, and with an interruption; return whether the run resumes, is refused or fails, and why."""
    words = fast("trainer.max_epochs=2", *line)
    whole, parts = cwd / "whole", cwd / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    with noting_failures_of_rehearsals() as failures:
        first = run_main(train.main, whole, *words, code=None)
    if first.code == USAGE:
        assert_one_line(first)
        assert not [path for path in whole.rglob("*") if path.is_file()]
        return "is refused", first.err
    if first.code == FAILURE:
        assert_fails_by_itself(first, words, failures)
        return "fails", first.err
    with pytest.MonkeyPatch.context() as patch:
        interrupting(patch)
        run_main(train.main, parts, *words, code=143)
    run_main(train.main, parts, *words)
    assert_same_weights(only_run(parts), only_run(whole))
    assert results(only_run(parts)) == results(only_run(whole))
    return "resumes", ""


@contextmanager
def noting_failures_of_rehearsals() -> Iterator[set[str]]:
    """Collect the classes of errors that end the trainings of a rehearsal."""
    train_in_rehearsal, found = rehearsal.train, set()

    def noting(*arguments: Any) -> dict[str, Any]:
        try:
            return train_in_rehearsal(*arguments)
        except Exception as error:
            found.add(type(error).__name__)
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "train", noting)
        yield found


def assert_fails_by_itself(first: Outcome, words: list[str], failures: set[str]) -> None:
    """Assert that a callback failed as in its rehearsal, was named, and can be left out."""
    path = only_run(first.cwd)
    again = run_main(train.main, first.cwd, *words, code=FAILURE)
    for outcome in (first, again):
        assert re.search("in the callback [A-Za-z]+, which you can leave out$", outcome.err.splitlines()[-1])
        assert status(path)["state"] == "failed"
    assert failures == {status(path)["error"].partition(":")[0]}
    assert not [*path.glob("checkpoints/*"), *path.rglob("*.partial")]
    run_main(train.main, first.cwd, *(word for word in words if "runtime.callbacks.one" not in word))
    assert status(path)["state"] == "done"


def assert_outcome(name: str, line: list[str], cwd: Path) -> None:
    """Assert that a class of this name resumes, or that it is refused or fails for the reason that is known."""
    outcome, why = outcome_of(line, cwd)
    assert outcome == ("is refused" if name in REFUSED else "fails" if name in FAILING else "resumes"), why
    assert (REFUSED | FAILING).get(name, "") in why


@pytest.mark.exhaustive
@pytest.mark.parametrize("optimizer", classes(torch.optim, Optimizer))
def test_every_optimizer_resumes_or_is_refused(optimizer: type, tmp_path: Path) -> None:
    assert_outcome(optimizer.__name__, ["~optimizer.fused", *arguments("optimizer", optimizer)], tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheduler", classes(lr_scheduler, LRScheduler))
@pytest.mark.parametrize("interval", ["step", "epoch", "validation"])
def test_every_scheduler_resumes_or_is_refused(
    interval: str, scheduler: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if interval != "validation":  # so there is no bound
        monkeypatch.setitem(REFUSED, "ReduceLROnPlateau", "missing 1 required positional argument: 'metrics'")
    line = ["lr_schedule=decay", "~lr_schedule.scheduler.step_size", "~lr_schedule.scheduler.gamma"]
    line += [f"lr_schedule.interval={interval}", *arguments("lr_schedule.scheduler", scheduler)]
    assert_outcome(scheduler.__name__, line, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("callback", classes(lightning_callbacks, Callback))
def test_every_callback_resumes_is_refused_or_fails(callback: type, tmp_path: Path) -> None:
    # below `runtime`, so that the run has the same folder if the callback is left out
    line = [f"+{word.lstrip('+')}" for word in arguments("runtime.callbacks.one", callback)]
    assert_outcome(callback.__name__, ["logger=none", *line], tmp_path)


@pytest.mark.slow
def test_averaged_weights_resume_to_the_last_bit(tmp_path: Path) -> None:
    line = ["+callbacks.mine._target_=pytorch_lightning.callbacks.EMAWeightAveraging"]
    assert_outcome("EMAWeightAveraging", line, tmp_path)
