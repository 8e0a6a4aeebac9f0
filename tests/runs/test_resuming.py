"""Whatever a run is made of, it resumes to the last bit, or it is refused before training begins."""

from io import BytesIO
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from tests.helpers.callbacks import NOT_STORED, STORED, Records
from tests.helpers.commands import (
    USAGE,
    Run,
    assert_one_line,
    assert_same_weights,
    fast,
    only_run,
    results,
    run_main,
    status,
)
from tests.helpers.training import configured, fit, interrupting, plain, same, script_validations
from vaelab import train
from vaelab.errors import ConfigError
from vaelab.runs.build import make_callbacks, make_trainer
from vaelab.runs.folder.checkpoint_files import readable
from vaelab.runs.folder.contents import loaded
from vaelab.runs.processes.seeds import one_by_one, stacked, way_of
from vaelab.runs.rehearsal import rehearse
from vaelab.security.checkpoint_scan import check_format
from vaelab.signals import Interrupted
from vaelab.training import VAEModule
from vaelab.training.other_callbacks import PER_STEP, why_stopped

# what a checkpoint stores


@pytest.mark.parametrize("kind", STORED)
def test_what_a_callback_keeps_is_read_as_it_was(kind: str) -> None:
    value = STORED[kind]
    content = readable({"callbacks": {"Keeps": {"kept": value}}})
    read = loaded(BytesIO(content), len(content))["callbacks"]["Keeps"]["kept"]
    assert plain(read) == plain(value)
    if not isinstance(value, np.generic):
        assert type(read) is type(value)


@pytest.mark.parametrize("kind", NOT_STORED)
def test_what_cannot_be_read_again_is_not_written(kind: str) -> None:
    with pytest.raises(ConfigError, match="because the callback Keeps stores more than plain data"):
        readable({"state_dict": {}, "callbacks": {"Keeps{'a': 1}": {"kept": NOT_STORED[kind]}, "Other": {}}})


@pytest.mark.parametrize(
    ("part", "name"), [("optimizer_states", "the optimizer"), ("lr_schedulers", "the scheduler"), ("mine", "adds mine")]
)
def test_the_part_that_cannot_be_stored_is_named(part: str, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        readable({"callbacks": {}, part: [{"a": Path("a")}]})


def test_tensors_that_share_memory_do_not_claim_more_than_the_file() -> None:
    weights = torch.ones(10_000)
    content = readable({"counts": {"steps": 1, "samples_seen": 1}, "state_dict": {"a": weights, "b": weights}})
    check_format(loaded(BytesIO(content), len(content)), len(content), Path("last.ckpt"))


def test_a_callback_that_cannot_be_stored_is_refused_before_training(run_fast: Run, tmp_path: Path) -> None:
    line = ("+callbacks.mine._target_=tests.helpers.callbacks.Keeps", "+callbacks.mine.kind=path")
    assert_one_line(run_fast(*line, code=USAGE), "the callback Keeps", "pathlib")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def mine(name: str, key: str = "mine") -> str:
    """Return the override that adds a callback of tests/helpers/callbacks.py."""
    return f"+callbacks.{key}._target_=tests.helpers.callbacks.{name}"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_callback_that_fails_is_named(seeds: int, run_fast: Run) -> None:
    outcome = run_fast("+callbacks.one._target_=pytorch_lightning.callbacks.SpikeDetection", f"seeds={seeds}", code=1)
    told = "raised in the callback SpikeDetection, which you can leave out"
    assert told in outcome.err.splitlines()[-1]
    for file in outcome.cwd.glob("logs/runs/*/status.json"):
        assert status(file.parent)["error"] == f"KeyError: 'loss'; {told}"


SAVES = "+callbacks.saves._target_=pytorch_lightning.callbacks.ModelCheckpoint"
UNFIT = {
    "forgets": ((mine("Forgets"),), "ended in other weights than a training in one go: leave out Forgets"),
    "forgets, one epoch": ((mine("Forgets"), "trainer.max_epochs=1"), "leave out Forgets"),
    "forgets, two steps": ((mine("Forgets"), "trainer.max_steps=2"), "leave out Forgets"),
    "forgets, beside others": ((mine("Writes", "first"), SAVES, mine("Forgets")), "leave out Forgets"),
    "forgets, in seeds": ((mine("Forgets"), "seeds=3"), "leave out Forgets"),
    "cannot load": ((mine("Loads"),), "failed (KeyError: 'kept'): leave out Loads"),
    "changes the batch size": ((mine("Resizes"),), "leave out Resizes, type batch_size="),
}


# the slow ones differ from the first by what is rehearsed beside it
SLOW = ("forgets, one epoch", "forgets, two steps", "forgets, beside others")


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (how in SLOW)) for how in UNFIT])
def test_a_callback_that_does_not_resume_is_refused(how: str, run_fast: Run, tmp_path: Path) -> None:
    line, words = UNFIT[how]
    assert_one_line(run_fast(*line, code=USAGE), words)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_continuation_is_rehearsed(run_fast: Run, copied: Path) -> None:
    line = ("+runtime.callbacks.mine._target_=tests.helpers.callbacks.Forgets", "trainer.max_epochs=3")
    assert_one_line(run_fast(*line, code=USAGE, figures=True), "leave out Forgets")
    assert status(copied)["state"] == "done"


@pytest.mark.slow
def test_what_a_callback_writes_in_a_rehearsal_is_lost(run_fast: Run, tmp_path: Path) -> None:
    run_fast(mine("Writes"), "trainer.max_epochs=2")
    assert (tmp_path / "rows.csv").read_text() == "0\n1\n"


@pytest.mark.parametrize("name", ["Breaks", "Writes"])
def test_a_callback_that_resumes_is_accepted(name: str) -> None:
    rehearse(configured(mine(name)))


def test_what_precedes_a_training_leaves_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    asked = Mock(side_effect=RuntimeError)  # on a GPU, this call creates a CUDA context
    monkeypatch.setattr(torch.accelerator, "current_stream", asked)
    rehearse(configured(mine("Breaks")))
    assert not asked.called


def test_a_rehearsal_that_diverges_refuses_nothing(run_fast: Run) -> None:
    line = (mine("Keeps"), "+callbacks.mine.kind=set")
    outcome = run_fast(*line, "decoder=gaussian", "optimizer.lr=1e30", code=1)
    assert "training diverged" in outcome.err
    assert status(only_run(outcome.cwd))["state"] == "failed"


def test_lists_in_the_configuration_are_stored_as_lists() -> None:
    steps = ("lr_schedule.scheduler._target_=torch.optim.lr_scheduler.MultiStepLR", "~lr_schedule.scheduler.step_size")
    lists = ("+lr_schedule.scheduler.milestones=[5,20]", "optimizer._target_=torch.optim.NAdam", "~optimizer.fused")
    fitted = fit("lr_schedule=decay", *steps, *lists, "+optimizer.betas=[0.9,0.99]", "trainer.max_steps=1")
    assert type(fitted.optimizer.param_groups[0]["betas"]) is list
    readable(fitted.trainer._checkpoint_connector.dump_checkpoint(weights_only=False))


# a training that a callback ended


EARLY = ("+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping", "+callbacks.stop.monitor=val/elbo")
EARLY = (*EARLY, "+callbacks.stop.mode=max")
STOPS = "+callbacks.stop._target_=tests.helpers.callbacks.Stops"
ENDS = {
    "early stopping": (*EARLY, "+callbacks.stop.patience=1"),
    "within an epoch": (STOPS, "+callbacks.stop.hook=on_train_batch_end", "+callbacks.stop.steps=20"),
    "at its start": (STOPS, "+callbacks.stop.hook=on_train_epoch_start", "+callbacks.stop.steps=15"),
    "after a validation": (STOPS, "+callbacks.stop.hook=on_validation_end", "+callbacks.stop.steps=30"),
    "at the last step": (STOPS, "+callbacks.stop.hook=on_train_epoch_end", "+callbacks.stop.steps=75"),
}


def told_to_stop(self: VAEModule) -> None:
    raise Interrupted(15)


def whole_and_interrupted_in_its_test(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Run a command once in one go, and once interrupted in its test and typed again; return both working folders."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    run_main(train.main, whole, *words)
    with monkeypatch.context() as patch:
        patch.setattr(VAEModule, "on_test_start", told_to_stop)
        run_main(train.main, parts, *words, code=143)
    run_main(train.main, parts, *words)
    return whole, parts


@pytest.mark.slow
@pytest.mark.parametrize("how", ENDS)
def test_a_run_that_a_callback_ended_trains_no_more(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch, lambda steps: -float(steps))  # the bound falls
    words = fast("trainer.max_epochs=5", *ENDS[how])
    whole, parts = whole_and_interrupted_in_its_test(words, tmp_path, monkeypatch)
    path = only_run(parts)
    assert_same_weights(path, only_run(whole))
    assert results(path) == results(only_run(whole))
    assert status(path)["ended_by"] == status(only_run(whole))["ended_by"]
    again = run_main(train.main, parts, *fast("trainer.max_epochs=9", *ENDS[how]))
    assert f"a callback ended it: {status(path)['ended_by']}" in again.out
    assert results(path) == results(only_run(whole))


@pytest.mark.slow
def test_a_run_that_was_not_ended_goes_on(run_fast: Run) -> None:
    run_fast(*EARLY, "trainer.max_epochs=1")
    path = run_fast(*EARLY, "trainer.max_epochs=2").path
    assert results(path)["steps"] == 30
    assert "ended_by" not in status(path)


@pytest.mark.slow
def test_averaged_weights_are_tested_after_an_interrupted_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = fast("+callbacks.mine._target_=pytorch_lightning.callbacks.EMAWeightAveraging", "+callbacks.mine.decay=0.5")
    whole, parts = whole_and_interrupted_in_its_test(words, tmp_path, monkeypatch)
    assert results(only_run(parts)) == results(only_run(whole))


# a continuation that fails


CYCLE = (
    *("lr_schedule=decay", "lr_schedule.scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"),
    *("~lr_schedule.scheduler.step_size", "~lr_schedule.scheduler.gamma", "+lr_schedule.scheduler.max_lr=0.01"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("interval", "total"), [("step", 15), pytest.param("epoch", 1, marks=pytest.mark.slow)])
def test_a_continuation_in_vain_leaves_the_finished_run(interval: str, total: int, run_fast: Run) -> None:
    cycle = (*CYCLE, f"lr_schedule.interval={interval}", f"+lr_schedule.scheduler.total_steps={total}")
    path = run_fast(*cycle, "trainer.max_epochs=1").path
    before = status(path), (path / "config.yaml").read_bytes()
    assert "Tried to step" in run_fast(*cycle, "trainer.max_epochs=3", code=1).err
    assert (status(path), (path / "config.yaml").read_bytes()) == before
    assert "finished before" in run_fast(*cycle, "trainer.max_epochs=1").out


@pytest.mark.slow
def test_a_continuation_with_a_checkpoint_keeps_its_epochs(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run_fast("trainer.max_epochs=1").path
    with monkeypatch.context() as patch:
        interrupting(patch, epoch=1)
        run_fast("trainer.max_epochs=3", code=143)
    assert status(path)["state"] == "interrupted"
    assert_one_line(run_fast("trainer.max_epochs=1", code=1), "trainer.max_epochs=3")
    assert results(run_fast("trainer.max_epochs=3").path)["steps"] == 45


# callbacks of steps


def test_averaged_weights_do_not_depend_on_steps_per_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ema = ("+callbacks.mine._target_=pytorch_lightning.callbacks.EMAWeightAveraging", "trainer.max_epochs=1")
    one, many = (fit(*ema, f"steps_per_call={n}", path=tmp_path / str(n)).state for n in (1, 50))
    assert same(one, many)
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == "steps_per_call is 1 for this run, because EMAWeightAveraging acts at every step"


@pytest.mark.parametrize("hook", PER_STEP)
def test_a_hook_of_steps_is_called_at_every_step(hook: str, tmp_path: Path) -> None:
    Records.calls.clear()
    records = ("+callbacks.mine._target_=tests.helpers.callbacks.Records", f"+callbacks.mine.hooks=[{hook}]")
    fit(*records, "trainer.max_steps=7", path=tmp_path)
    assert Records.calls == {hook: 7}


WITHIN = (mine("Records"), "+callbacks.mine.hooks=[on_before_zero_grad]", "seeds=2")


def test_stacked_seeds_refuse_a_callback_that_acts_within_a_step(run_fast: Run, tmp_path: Path) -> None:
    assert_one_line(run_fast(*WITHIN, "stacked=true", code=USAGE), "Records acts within steps", "type stacked=false")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_seeds_with_a_callback_within_steps_train_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert way_of(configured("accelerator=gpu", "seeds=2")) is stacked
    assert way_of(configured("accelerator=gpu", *WITHIN)) is one_by_one


@pytest.mark.parametrize(
    ("names", "said"),
    [([], "the module"), (["Forgets"], "Forgets"), (["Forgets", "Loads"], "a callback")],
)
def test_the_callback_that_ended_a_training_is_named_if_alone(names: list[str], said: str, tmp_path: Path) -> None:
    cfg = configured(*(mine(name, name) for name in names))
    trainer = make_trainer(cfg, tmp_path, make_callbacks(cfg, bar=False))
    trainer.should_stop = True
    assert why_stopped(trainer) == f"it was told to stop by {said}"


def test_a_callback_of_epochs_leaves_the_steps_together(tmp_path: Path) -> None:
    early = fit(*EARLY, "trainer.max_epochs=1", path=tmp_path)
    assert early.module.data.batches_per_chunk == 50
