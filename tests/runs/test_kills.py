"""`kill -9` at any instant, then the same command: what comes out is what would have come out."""

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.commands import Outcome, Run, curve_rows, fast, results, run_main
from tests.helpers.once import once
from tests.helpers.training import plain, script_validations
from vaelab import train
from vaelab.files import replacing
from vaelab.runs.folder import run_folder as run
from vaelab.training import Checkpoints
from vaelab.training.step import Step

LINES = {
    "validations, buffers, Adagrad": (
        *("lr_schedule=plateau", "lr_schedule.scheduler.patience=0", "trainer.val_check_interval=4"),
        *("decoder=gaussian_optimal", "optimizer=adagrad", "weight_prior=normal", "steps_per_call=1"),
    ),
    "schedule of steps, momentum, shared layers, rollback": (
        *("lr_schedule=cosine", "lr_schedule.interval=step", "optimizer._target_=torch.optim.SGD"),
        *("+optimizer.momentum=0.9", "optimizer.lr=1e-3", "model=shared", "decoder=gaussian", "on_nan=rollback"),
        *("steps_per_call=4", "checkpoint_every_n_steps=4", "trainer.max_steps=25"),
    ),
}
SHORT = LINES["schedule of steps, momentum, shared layers, rollback"]


CHUNKS = ("steps_per_call=4", "checkpoint_every_n_steps=3")


def command(line: tuple[str, ...]) -> list[str]:
    return fast("trainer.max_epochs=3", *line)  # of 15 steps


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(function: Callable[[], int]) -> tuple[int, int]:
    """Call a function in a forked process; return how that ended, and what the function returned, or -1.

    The process has one thread, because PyTorch's others do not survive a fork, and it would wait for them.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        os.environ["OMP_NUM_THREADS"] = "1"  # for commands
        torch.set_num_threads(1)
        try:
            os.write(write, str(function()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(text or -1)


def counted(function: Callable[..., Any], *args: Any, kill_at: int = 0) -> int:
    """Call a function; return how many calls happen in it, Python's and C's. Kill this process at one of them."""
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        if event in ("call", "c_call", "c_return"):
            count += 1
            if count == kill_at:
                kill()

    sys.setprofile(profile)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    return count


def trained(cwd: Path, line: tuple[str, ...], kill_at: int = 0) -> int:
    """Type the command; return how many calls happen."""
    cwd.mkdir(exist_ok=True)
    return counted(run_main, train.main, cwd, *command(line), kill_at=kill_at)


def outcome(cwd: Path) -> dict[str, Any]:
    """All that a run comes to: weights, the optimiser's state, schedules, counts, metrics, the table of the curves."""
    (path,) = cwd.glob("logs/runs/*")
    assert not list(path.rglob("*.partial"))
    found: dict[str, Any] = {"metrics": results(path)}
    for name in ("last", "best"):
        checkpoint = torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        keys = ("state_dict", "optimizer_states", "lr_schedulers", "counts", "guard", "callbacks")
        found[name] = {key: plain(checkpoint[key]) for key in keys}
    found["validations"] = [row for row in curve_rows(path) if row["val/elbo"]]
    return found


def assert_completed(cwd: Path, line: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert in_child(lambda: run_main(train.main, cwd, *command(line)).code)[0] == 0
    found = outcome(cwd)
    for key, value in expected.items():
        assert found[key] == value, key


# each line is killed at instants of its own: at so many calls of functions, between which no Python runs
@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_a_killed_run_is_completed_to_the_last_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch)
    line, rng = LINES[name], random.Random(name)
    code, total = in_child(lambda: trained(tmp_path / "whole", line))
    assert code == 0
    expected = outcome(tmp_path / "whole")
    for attempt in range(2):
        cwd, instant = tmp_path / str(attempt), rng.randrange(total // 5, total)  # the first fifth only prepares
        code, _ = in_child(lambda cwd=cwd, instant=instant: trained(cwd, line, instant))
        assert code == -signal.SIGKILL
        assert_completed(cwd, line, expected)


def killing(function: Callable[..., Any], call: int, told: list[int], kill_at: int = 0) -> Callable[..., Any]:
    """`function`, in whose call number `call` calls are counted, or this process is killed."""
    calls = iter(range(1, 1000))

    def wrapped(*args: Any) -> None:
        if next(calls) == call:
            told.append(counted(function, *args, kill_at=kill_at))
        else:
            function(*args)

    return wrapped


@pytest.mark.slow
@pytest.mark.parametrize("write", [3, 4])  # last.ckpt of an epoch, best.ckpt
def test_a_run_killed_while_writing_a_checkpoint_is_completed(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, save = list[int](), Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", killing(save, write, told))

    def counting() -> int:
        run_main(train.main, tmp_path, *command(SHORT))
        return told[0]

    code, total = in_child(counting)
    assert code == 0
    expected = outcome(tmp_path)
    for attempt, instant in enumerate((total // 2, total - 20)):  # the last calls are the renames
        cwd = tmp_path / str(attempt)
        cwd.mkdir()
        monkeypatch.setattr(Checkpoints, "save", killing(save, write, told, instant))
        code, _ = in_child(lambda cwd=cwd: run_main(train.main, cwd, *command(SHORT)).code)
        assert code == -signal.SIGKILL
        monkeypatch.setattr(Checkpoints, "save", save)
        assert_completed(cwd, SHORT, expected)


# a disk that is full


def limited(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 20_000])  # nothing can be written; the status and the log, but no checkpoint
def test_a_full_disk_fails_in_one_line_and_training_resumes(
    size: int, expected: dict[str, Any], tmp_path: Path
) -> None:
    step, calls = Step.__call__, iter(range(1, 1000))

    def until_full(*args: Any) -> None:
        if next(calls) == 17:  # in the second epoch
            limited(size)
        step(*args)

    def fails() -> int:
        Step.__call__ = until_full  # type: ignore[method-assign]
        failed = run_main(train.main, tmp_path, *command(CHUNKS), code=1)
        limited(-1)
        assert len(failed.err.splitlines()) == 1, failed.err
        assert "File too large" in failed.err
        return 0

    assert in_child(fails)[0] == 0
    assert_completed(tmp_path, CHUNKS, expected)


# damaged checkpoints


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run comes to that nothing befalls."""
    cwd = tmp_path_factory.mktemp("whole")
    run_main(train.main, cwd, *command(CHUNKS))
    return outcome(cwd)


@pytest.fixture(scope="module")
def after_40_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run was cut short in its third epoch."""
    line = (*command(CHUNKS), "trainer.max_steps=40")
    return once(tmp_path_factory, "begun", lambda cwd: run_main(train.main, cwd, *line)).cwd


@pytest.fixture
def begun(after_40_steps: Path, tmp_path: Path) -> Path:
    """A copy of that run's folder, where the same command finds it."""
    shutil.copytree(after_40_steps, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("logs/runs/*")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "lost"])
def test_the_checkpoint_before_a_damaged_one_is_used(
    damage: str, begun: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:10_000])
    if damage == "lost":
        last.unlink()
    completed = run_main(train.main, tmp_path, *command(CHUNKS))
    if damage != "lost":
        (told,) = completed.err.splitlines()
        assert "last.ckpt cannot be loaded" in told
        assert told.endswith("resuming from previous.ckpt")
        assert told.removeprefix("vaelab: ") in (begun / "train.log").read_text()
    found = outcome(tmp_path)
    for key in ("last", "metrics"):
        assert found[key] == expected[key], key


@pytest.mark.slow
def test_another_number_of_threads_is_told_of(begun: Path, tmp_path: Path) -> None:
    record = begun / "record.json"
    text = record.read_text().replace(f'"threads": {torch.get_num_threads()}', '"threads": 99')
    assert '"threads": 99' in text
    record.write_text(text)
    told = run_main(train.main, tmp_path, *command(())).err
    assert "99 threads" in told
    assert len(told.splitlines()) == 1


def test_a_damaged_best_checkpoint_costs_its_own_numbers_alone(whole: Outcome, run_fast: Run, monkeypatch: Any) -> None:
    script_validations(monkeypatch)  # as the run had them
    path, before = whole.path, results(whole.path)
    (path / "metrics.json").unlink()
    (path / "checkpoints" / "best.ckpt").write_bytes(b"")
    assert "the best weights are not evaluated" in run_fast("trainer.max_epochs=5").err
    assert results(path) == {name: value for name, value in before.items() if not name.startswith("best/")}


@pytest.mark.slow
def test_a_damaged_checkpoint_never_replaces_the_one_before(begun: Path, tmp_path: Path, monkeypatch: Any) -> None:
    good = (begun / "checkpoints" / "previous.ckpt").read_bytes()
    (begun / "checkpoints" / "last.ckpt").write_bytes(b"")
    monkeypatch.setattr(Step, "__call__", lambda *_: kill())
    code, _ = in_child(lambda: run_main(train.main, tmp_path, *command(())).code)
    assert code == -signal.SIGKILL
    assert {file.name: file.read_bytes() for file in (begun / "checkpoints").glob("[lp]*")} == {
        "last.damaged": b"",
        "previous.ckpt": good,
    }


@pytest.mark.slow
@pytest.mark.usefixtures("copied")
def test_more_epochs_killed_before_they_begin_are_not_done(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write = run.write_atomically

    def killed(path: Path, content: str) -> None:
        write(path, content)
        if path.name == "config.yaml":
            kill()

    monkeypatch.setattr(run, "write_atomically", killed)
    code, _ = in_child(lambda: run_fast("trainer.max_epochs=3").code)
    assert code == -signal.SIGKILL
    monkeypatch.undo()
    longer = run_fast("trainer.max_epochs=3")
    assert "finished before" not in longer.out
    assert results(longer.path)["epochs"] == 3


def test_the_last_checkpoint_is_there_at_any_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, former = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    path.write_text("one")
    seen = []
    for owner, name in ((Path, "replace"), (os, "link")):
        act = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *args, act=act: (act(*args), seen.append(path.read_text())))
    with replacing(path, former) as partial:
        partial.write_text("two")
    assert (seen, path.read_text(), former.read_text()) == (["one", "two"], "two", "one")
