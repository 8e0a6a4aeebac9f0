"""Whatever a run is made of, it resumes to the last bit, or it is refused before training begins."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning.callbacks as lightning_callbacks
import torch
from pytorch_lightning import Callback
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler, SequentialLR

from tests.helpers.commands import USAGE, Run, assert_one_line, assert_same_weights, fast, only_run, results, run_main
from tests.helpers.training import script_validations
from vaelab import train
from vaelab.signals import Interrupted
from vaelab.training import Checkpoints

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def classes(module: Any, base: type) -> list[type]:
    """Return the public classes of a module that are derived from `base`."""
    found = {cls for cls in vars(module).values() if inspect.isclass(cls) and issubclass(cls, base) and cls is not base}
    return sorted((cls for cls in found if not cls.__name__.startswith("_")), key=lambda cls: cls.__name__)


# for arguments without a default, by their names
GIVEN: dict[str, Any] = {
    **{"gamma": 0.5, "step_size": 1, "milestones": "[1,20]", "T_max": 30, "T_0": 7, "base_lr": 0.001, "max_lr": 0.01},
    **{"lr_lambda": "{_target_: hydra.utils.get_method, path: tests.runs.test_resuming.halved}"},
    **{"schedulers": "[{_target_: torch.optim.lr_scheduler.StepLR, _partial_: true, step_size: 1}]"},
    **{"monitor": "val/elbo", "swa_lrs": 0.01, "pruning_fn": "l1_unstructured", "scheduling": "{0:1}"},
    **{"dirpath": "elsewhere", "batch_size_fn": "{_target_: hydra.utils.get_method, path: builtins.id}"},
}
# for arguments whose default leaves them without effect, or out of a run of two epochs
CHANGED = {"total_steps": 30, "unfreeze_backbone_at_epoch": 1, "duration": "00:01:00:00", "every_n_train_steps": 4}


def halved(epoch: int) -> float:
    return 0.5**epoch


def arguments(node: str, cls: type) -> list[str]:
    """Return overrides that choose a class, with lists where it has tuples."""
    found = [f"{node}._target_={cls.__module__}.{cls.__name__}"]
    for name, parameter in inspect.signature(cls).parameters.items():
        default = parameter.default
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name not in ("params", "optimizer"):
            if default is parameter.empty or name in CHANGED:
                found.append(f"++{node}.{name}={CHANGED[name] if name in CHANGED else GIVEN[name]}")
            elif isinstance(default, tuple) and default:
                found.append(f"++{node}.{name}={list(default)}")
    return found


def interrupting(patch: pytest.MonkeyPatch) -> None:
    """Have a signal come right after the first epoch's checkpoint."""
    save = Checkpoints.on_train_epoch_end

    def saved(self: Checkpoints, trainer: Any, *args: Any) -> None:
        save(self, trainer, *args)
        if trainer.current_epoch == 0:
            raise Interrupted(15)

    patch.setattr(Checkpoints, "on_train_epoch_end", saved)


def assert_resumes_or_is_refused(line: list[str], cwd: Path) -> bool:
    """Train in one go, and with an interruption; return False if the run was refused, and left nothing behind."""
    words = fast("trainer.max_epochs=2", *line)
    whole, parts = cwd / "whole", cwd / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    try:
        run_main(train.main, whole, *words)
    except AssertionError:
        assert_one_line(run_main(train.main, parts, *words, code=USAGE))
        assert not [path for path in parts.rglob("*") if path.is_file()]
        return False
    with pytest.MonkeyPatch.context() as patch:
        interrupting(patch)
        run_main(train.main, parts, *words, code=143)
    run_main(train.main, parts, *words)
    assert_same_weights(only_run(parts), only_run(whole))
    assert results(only_run(parts)) == results(only_run(whole))
    return True


@pytest.mark.exhaustive
@pytest.mark.parametrize("optimizer", classes(torch.optim, Optimizer))
def test_every_optimizer_resumes_or_is_refused(optimizer: type, tmp_path: Path) -> None:
    line = ["~optimizer.fused", *arguments("optimizer", optimizer)]
    assert_resumes_or_is_refused(line, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("scheduler", classes(lr_scheduler, LRScheduler))
@pytest.mark.parametrize("interval", ["step", "epoch", "validation"])
def test_every_scheduler_resumes_or_is_refused(interval: str, scheduler: type, tmp_path: Path) -> None:
    line = ["lr_schedule=decay", "~lr_schedule.scheduler.step_size", "~lr_schedule.scheduler.gamma"]
    line += [f"lr_schedule.interval={interval}", *arguments("lr_schedule.scheduler", scheduler)]
    assert_resumes_or_is_refused(line, tmp_path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("callback", classes(lightning_callbacks, Callback))
def test_every_callback_resumes_or_is_refused(callback: type, tmp_path: Path) -> None:
    line = [word if word.startswith("++") else f"+{word}" for word in arguments("callbacks.one", callback)]
    assert_resumes_or_is_refused(["logger=csv", *line], tmp_path)
