"""Signals: the step is finished, a checkpoint written, the run marked as interrupted, and somebody else told."""

import os
import pickle
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import Run, assert_same_weights, curve_rows, only_run, results, status, steps_in
from tests.helpers.training import script_validations
from vaelab.runs.tracking.curves import Curves
from vaelab.signals import Interrupted, heeding
from vaelab.sweeps.progress import SweepProgress
from vaelab.training import Checkpoints, VAEModule
from vaelab.training.stacked_step import StackedStep
from vaelab.training.step import Step

FOUR = ("trainer.max_epochs=4",)  # of 15 optimiser steps each
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def signalling(function: Callable[..., Any], at: dict[int, int]) -> Callable[..., Any]:
    """`function`, which at its call number n first sends this process the signal `at[n]`."""
    calls = iter(range(1, 100_000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        number = at.get(next(calls))
        if number is not None:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.slow] * (number != signal.SIGTERM)) for number in CODES]
)
def test_a_signal_stops_after_the_step_and_training_resumes(
    number: signal.Signals, run_fast: Run, tmp_path: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", signalling(Step.__call__, {22: number}))
        outcome = run_fast(*FOUR, code=CODES[number])
    path = only_run(tmp_path)
    assert steps_in(path) == 22  # the seventh step of the second epoch, in the middle of a chunk
    assert steps_in(path, "previous") == 15
    assert (status(path)["state"], status(path)["error"]) == ("interrupted", f"Interrupted: {number.name}")
    assert outcome.err.splitlines() == [
        f"vaelab: {number.name}: stopping after this step, with a checkpoint; Ctrl-C stops at once",
        f"vaelab: stopped after step 22: type the same command again, and {path.relative_to(tmp_path)} goes on",
    ]
    assert run_fast(*FOUR).err == ""
    assert_same_weights(path, long_run)
    assert_same_weights(path, long_run, "best")
    assert results(path) == results(long_run)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "call", "steps"), [("validation_step", 3, 30), ("test_step", 1, 60)])
def test_a_signal_may_come_during_an_evaluation(
    method: str, call: int, steps: int, run_fast: Run, tmp_path: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(VAEModule, method, signalling(getattr(VAEModule, method), {call: signal.SIGTERM}))
        outcome = run_fast(*FOUR, code=143)
    path = only_run(tmp_path)
    assert (steps_in(path), status(path)["state"]) == (steps, "interrupted")
    assert f"vaelab: stopped after step {steps}: type" in outcome.err
    run_fast(*FOUR)
    assert_same_weights(path, long_run, "best")
    assert results(path) == results(long_run)


@pytest.mark.slow
def test_many_interruptions_change_nothing(run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("trainer.val_check_interval=4", "lr_schedule=plateau", "lr_schedule.scheduler.patience=0")
    line = (*line, "trainer.max_epochs=3", "steps_per_call=3")
    script_validations(monkeypatch)
    steps = []
    for call in (1, 7, 9, 2):  # in the middle of a chunk, at its end, after the last step before a validation
        with monkeypatch.context() as patch:
            patch.setattr(Step, "__call__", signalling(Step.__call__, {call: signal.SIGTERM}))
            run_fast(*line, code=143)
        steps.append(steps_in(only_run(tmp_path)))
    assert steps == [1, 8, 17, 19]
    path, other = run_fast(*line).path, run_fast(*line, "name=whole").path
    assert_same_weights(path, other)
    assert_same_weights(path, other, "best")
    assert results(path) == results(other)
    assert [row for row in curve_rows(path) if row["val/elbo"]] == [row for row in curve_rows(other) if row["val/elbo"]]


@pytest.mark.parametrize(
    ("number", "steps"),
    [(signal.SIGINT, 15), (signal.SIGTERM, 22)],  # Ctrl-C twice stops within the step
)
def test_only_a_second_ctrl_c_stops_at_once(
    number: signal.Signals, steps: int, scontrol: Path, run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twice = signalling(signalling(Step.body, {22: number}), {22: number})
    monkeypatch.setattr(Step, "body", twice)
    run_fast(*FOUR, code=CODES[number])
    path = only_run(tmp_path)
    assert (steps_in(path), status(path)["state"]) == (steps, "interrupted")
    assert scontrol.read_text() == ""  # neither puts a job back into the queue


@pytest.mark.slow
def test_stacked_seeds_all_stop_with_a_checkpoint(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (*FOUR, "seeds=2", "stacked=true")
    with monkeypatch.context() as patch:
        patch.setattr(StackedStep, "__call__", signalling(StackedStep.__call__, {22: signal.SIGTERM}))
        run_fast(*line, code=143)
    paths = sorted(tmp_path.glob("logs/runs/*"))
    assert [(steps_in(path), status(path)["state"]) for path in paths] == [(22, "interrupted")] * 2
    run_fast(*line)
    for seed, path in enumerate(paths):
        other = run_fast(*FOUR, f"seed={seed}", "name=whole").path
        assert results(path) == pytest.approx(results(other), rel=1e-4, abs=1e-3)  # sums of many models round otherwise


# who else is told


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SLURM job, and a `scontrol` that writes down how it is called."""
    program, calls = tmp_path / "bin" / "scontrol", tmp_path / "calls"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    calls.touch()
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_NTASKS", "1")  # with which Lightning would take the requeueing upon itself
    monkeypatch.setenv("SLURM_JOB_NAME", "night")
    return calls


@pytest.mark.slow
def test_a_warned_slurm_job_writes_one_checkpoint_and_is_requeued(
    scontrol: Path, run_fast: Run, tmp_path: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    save = Checkpoints.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda self, trainer, name: (saved.append(name), save(self, trainer, name)))
        patch.setattr(Step, "__call__", signalling(Step.__call__, {7: signal.SIGUSR1}))
        outcome = run_fast(*FOUR, code=138)
    assert saved == ["last"]
    assert scontrol.read_text() == "requeue 70_3\n"  # of an array, by its own number
    assert "SLURM job 70_3 is requeued" in outcome.err
    path = only_run(tmp_path)
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    run_fast(*FOUR)
    assert_same_weights(path, long_run)


def test_a_failed_requeue_is_told_of(
    scontrol: Path, run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "scontrol").write_text("#!/bin/sh\necho Requested operation is disabled >&2\nexit 1\n")
    monkeypatch.setattr(Step, "__call__", signalling(Step.__call__, {7: signal.SIGUSR1}))
    outcome = run_fast(*FOUR, code=138)
    assert "could not be requeued: Requested operation is disabled" in outcome.err
    assert status(only_run(tmp_path))["state"] == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGUSR1, pytest.param(signal.SIGUSR2, marks=pytest.mark.slow)])
def test_a_former_handler_is_called_after_the_checkpoint(
    number: signal.Signals, scontrol: Path, run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def requeue(told: int, frame: Any) -> None:  # as submitit does
        path = only_run(tmp_path)
        found.append((told, steps_in(path), status(path)["state"]))
        raise SystemExit(7)

    former = signal.signal(number, requeue)
    try:
        monkeypatch.setattr(Step, "__call__", signalling(Step.__call__, {7: number}))
        run_fast(*FOUR, code=7)
    finally:
        signal.signal(number, former)
    assert found == [(number, 7, "interrupted")]
    assert scontrol.read_text() == ""


def is_heeded(number: signal.Signals, handler: Any) -> bool:
    """Return whether `heeding` notices a signal that has this handler already."""
    former = signal.signal(number, handler)
    try:
        with heeding() as stop:
            os.kill(os.getpid(), number)
        return stop.asked is not None
    finally:
        signal.signal(number, former)


def test_sigterm_is_left_to_its_handler() -> None:
    told: list[int] = []
    assert not is_heeded(signal.SIGTERM, lambda number, frame: told.append(number))
    assert told == [signal.SIGTERM]


def test_an_ignored_hangup_stays_ignored() -> None:
    assert not is_heeded(signal.SIGHUP, signal.SIG_IGN)  # which nohup sets


def test_a_logger_that_the_signal_ended_costs_no_checkpoint(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("Connection lost")

    def told(*args: Any) -> None:
        if next(calls) == 22:
            monkeypatch.setattr(Curves, "log_metrics", gone)
            monkeypatch.setattr(Curves, "save", gone)
            os.kill(os.getpid(), signal.SIGTERM)
        step(*args)

    step, calls = Step.__call__, iter(range(1, 1000))
    monkeypatch.setattr(Step, "__call__", told)
    monkeypatch.setattr(Curves, "finalize", lambda *_: None)
    outcome = run_fast(*FOUR, code=143)
    assert "after SIGTERM: Connection lost" in outcome.err
    assert steps_in(only_run(tmp_path)) == 22


@pytest.mark.slow
def test_a_sweep_that_is_warned_between_two_jobs_is_requeued(
    scontrol: Path, run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = SweepProgress.ended
    monkeypatch.setattr(SweepProgress, "ended", lambda *args: (ended(*args), os.kill(os.getpid(), signal.SIGUSR1)))
    run_fast("-m", "latent_dim=2,3", code=138)
    assert scontrol.read_text() == "requeue 77\n"
    assert len(list(tmp_path.glob("logs/sweeps/*/*/metrics.json"))) == 1


@pytest.mark.slow
def test_a_requeued_rerun_goes_on_instead_of_starting_over(
    scontrol: Path, run_fast: Run, tmp_path: Path, long_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", signalling(Step.__call__, {7: signal.SIGUSR1}))
        run_fast(*FOUR, "rerun=true", code=138)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path = run_fast(*FOUR, "rerun=true").path
    assert [folder.name for folder in path.parent.iterdir()] == [path.name]  # nothing was put aside
    assert_same_weights(path, long_run)
    monkeypatch.setenv("SLURM_JOB_ID", "78")  # another job, that has come as far as this run
    run_fast(*FOUR, "rerun=true")
    assert len(list(path.parent.iterdir())) == 2


def test_the_interruption_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Interrupted(signal.SIGTERM))).exit_code == 143


@pytest.mark.slow
def test_handlers_are_as_before_afterwards(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in signal.Signals]
    run_fast()
    monkeypatch.setattr(Step, "__call__", signalling(Step.__call__, {1: signal.SIGTERM}))
    run_fast("seed=1", code=143)
    assert [signal.getsignal(number) for number in signal.Signals] == before


def test_without_anything_to_finish_a_signal_stops_at_once() -> None:
    def told() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("not stopped")

    with heeding(), pytest.raises(Interrupted) as caught:
        told()
    assert caught.value.exit_code == 143


def test_an_evaluation_stops_between_two_blocks(run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAEModule, "test_step", lambda *_: pytest.fail("not stopped"))
    monkeypatch.setattr(VAEModule, "bound", signalling(VAEModule.bound, {3: signal.SIGTERM}))
    run_fast(code=143)  # two blocks of the validation, then the first of another validation
    assert status(only_run(tmp_path))["state"] == "interrupted"
