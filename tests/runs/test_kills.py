"""`kill -9` at any instant, then the same command: what comes out is what would have come out."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.commands import ROOT, Run, fast, results, run_main
from tests.helpers.training import plain, script_validations
from vaelab import train
from vaelab.files import replacing
from vaelab.runs.folder import run_folder as run
from vaelab.training import Checkpoints
from vaelab.training.step import Step

LINES = {
    "chunks, checkpoints inside the epoch": ("steps_per_call=4", "checkpoint_every_n_steps=3"),
    "buffers, Adagrad, weight prior": (
        *("decoder=gaussian_optimal", "optimizer=adagrad", "weight_prior=normal"),
        *("initialization=normal", "initialization.std=0.1", "steps_per_call=1"),
    ),
    "plateau schedule, validation inside the epoch, clip": (
        *("lr_schedule=plateau", "lr_schedule.scheduler.patience=0"),
        *("trainer.val_check_interval=4", "gradient_clip=norm", "gradient_clip.max_norm=1"),
    ),
    "schedule of steps, momentum, shared layers, several samples": (
        *("lr_schedule=cosine", "lr_schedule.interval=step", "optimizer._target_=torch.optim.SGD"),
        *("+optimizer.momentum=0.9", "optimizer.lr=1e-3", "model=shared", "decoder=gaussian"),
        *("objective.num_samples=2", "objective.closed_form=false", "checkpoint_every_n_steps=4"),
    ),
    "fixed binarisation, rollback": (
        *("data.binarize=fixed", "on_nan=rollback", "steps_per_call=7", "checkpoint_every_n_steps=7"),
        *("objective.beta=4", "trainer.max_steps=40"),
    ),
}
KILLS = [(next(iter(LINES)), 1), *(pytest.param(name, 4, marks=pytest.mark.slow) for name in LINES)]


def command(line: tuple[str, ...]) -> list[str]:
    return fast("trainer.max_epochs=3", "logger=csv", *line)


class Calls:
    """Counts calls of functions, Python's and C's, and acts at one of them."""

    def __init__(self, at: int = 0, act: Callable[[], None] = lambda: None) -> None:
        self.at, self.act = at, act
        self.count = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        if event in ("call", "c_call", "c_return"):
            self.count += 1
            if self.count == self.at:
                self.act()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(function: Callable[[], int]) -> tuple[int, int]:
    """Calls a function in a forked process; returns how that ended, and what the function returned, or -1."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(write, str(function()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as told:
        text = told.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int(text or -1)


def trained(cwd: Path, line: tuple[str, ...], calls: Calls | None = None) -> int:
    """Types the command, counting calls; returns their number."""
    calls = calls or Calls()
    cwd.mkdir(exist_ok=True)
    sys.setprofile(calls)
    try:
        run_main(train.main, cwd, *command(line))
    finally:
        sys.setprofile(None)
    return calls.count


def outcome(cwd: Path) -> dict[str, Any]:
    """All that a run comes to: weights, the optimiser's state, schedules, counts, metrics, the table of the curves."""
    (path,) = cwd.glob("logs/runs/*")
    assert not list(path.rglob("*.partial"))
    found: dict[str, Any] = {"metrics": results(path)}
    for name in ("last", "best"):
        checkpoint = torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)
        keys = ("state_dict", "optimizer_states", "lr_schedulers", "counts", "guard", "callbacks")
        found[name] = {key: plain(checkpoint[key]) for key in keys}
    with (path / "csv" / "metrics.csv").open() as file:
        found["validations"] = [row for row in csv.DictReader(file) if row["val/elbo"]]
    return found


def assert_completed(cwd: Path, line: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert in_child(lambda: trained(cwd, line))[0] == 0
    found = outcome(cwd)
    for key, value in expected.items():
        assert found[key] == value, key


# each line is killed at instants of its own: at so many calls of functions, between which no Python runs
@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), KILLS)
def test_a_run_that_is_killed_at_any_instant_is_completed_to_the_last_bit(
    name: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "plateau" in name:
        script_validations(monkeypatch)
    line, rng = LINES[name], random.Random(name)
    code, total = in_child(lambda: trained(tmp_path / "whole", line))
    assert code == 0
    expected = outcome(tmp_path / "whole")
    for attempt in range(kills):
        cwd, instant = tmp_path / str(attempt), rng.randrange(total // 5, total)  # the first fifth only prepares
        code, _ = in_child(lambda cwd=cwd, instant=instant: trained(cwd, line, Calls(instant, kill)))
        assert code == -signal.SIGKILL
        assert_completed(cwd, line, expected)


def killing(function: Callable[..., Any], call: int, instant: int | None, told: list[int]) -> Callable[..., Any]:
    """`function`, whose call number `call` is killed at an instant, or whose instants are counted."""
    calls = iter(range(1, 1000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) != call:
            return function(*args, **kwargs)
        counted = Calls(instant or 0, kill)
        sys.setprofile(counted)
        try:
            return function(*args, **kwargs)
        finally:
            sys.setprofile(None)
            told.append(counted.count)

    return wrapped


@pytest.mark.slow
@pytest.mark.parametrize("write", [3, 4])  # last.ckpt of an epoch, best.ckpt
def test_a_run_that_is_killed_while_it_writes_a_checkpoint_is_completed_to_the_last_bit(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, told, save, rng = LINES["fixed binarisation, rollback"], list[int](), Checkpoints.save, random.Random(write)
    monkeypatch.setattr(Checkpoints, "save", killing(save, write, None, told))

    def counting() -> int:
        run_main(train.main, tmp_path, *command(line))
        return told[0]

    code, total = in_child(counting)
    assert code == 0
    expected = outcome(tmp_path)
    # the last calls are the renames
    for attempt, instant in enumerate([*rng.sample(range(1, total), 3), total - rng.randrange(5, 40)]):
        cwd = tmp_path / str(attempt)
        cwd.mkdir()
        monkeypatch.setattr(Checkpoints, "save", killing(save, write, instant, told))
        code, _ = in_child(lambda cwd=cwd: run_main(train.main, cwd, *command(line)).code)
        assert code == -signal.SIGKILL
        monkeypatch.setattr(Checkpoints, "save", save)
        assert_completed(cwd, line, expected)


def whole(tmp_path: Path) -> Path:
    (tmp_path / "whole").mkdir()
    return tmp_path / "whole"


# a disk that is full


def limited(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


# nothing; the status but no log; no checkpoint
@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 2_000, 20_000])
def test_a_file_that_cannot_grow_fails_in_one_line_and_the_run_goes_on_when_it_can(size: int, tmp_path: Path) -> None:
    line = LINES["chunks, checkpoints inside the epoch"]
    assert in_child(lambda: run_main(train.main, whole(tmp_path), *command(line)).code)[0] == 0
    expected = outcome(tmp_path / "whole")
    step, calls = Step.__call__, iter(range(1, 1000))

    def until_full(*args: Any) -> None:
        if next(calls) == 17:  # in the second epoch
            limited(size)
        step(*args)

    def fails() -> int:
        Step.__call__ = until_full  # type: ignore[method-assign]
        failed = run_main(train.main, tmp_path, *command(line), code=1)
        limited(-1)
        assert len(failed.err.splitlines()) == 1, failed.err
        assert "File too large" in failed.err
        return 0

    assert in_child(fails)[0] == 0
    (path,) = tmp_path.glob("logs/runs/*")
    torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)  # whole
    assert_completed(tmp_path, line, expected)


# damaged checkpoints


CHUNKS = ("steps_per_call=4",)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run comes to that nothing befalls."""
    cwd = tmp_path_factory.mktemp("whole")
    run_main(train.main, cwd, *command(CHUNKS))
    return outcome(cwd)


@pytest.fixture(scope="module")
def after_40_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a run was cut short in its third epoch."""
    cwd = tmp_path_factory.mktemp("begun")
    run_main(train.main, cwd, *command(CHUNKS), "trainer.max_steps=40")
    return cwd


@pytest.fixture
def begun(after_40_steps: Path, tmp_path: Path) -> Path:
    """A copy of that run's folder, where the same command finds it."""
    shutil.copytree(after_40_steps, tmp_path, dirs_exist_ok=True)
    (path,) = tmp_path.glob("logs/runs/*")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "lost"])
def test_a_damaged_last_checkpoint_is_told_of_and_the_one_before_is_used(
    damage: str, begun: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    last = begun / "checkpoints" / "last.ckpt"
    content = last.read_bytes()
    last.write_bytes(content[: len(content) // 2])
    if damage == "lost":
        last.unlink()
    completed = run_main(train.main, tmp_path, *command(CHUNKS))
    if damage != "lost":
        (told,) = completed.err.splitlines()
        assert "last.ckpt cannot be loaded" in told
        assert told.endswith("going on from previous.ckpt")
        assert "going on from previous.ckpt" in (begun / "train.log").read_text()
    found = outcome(tmp_path)
    for key in ("last", "metrics"):
        assert found[key] == expected[key], key


def test_another_number_of_threads_is_told_of(begun: Path, tmp_path: Path) -> None:
    record = begun / "record.json"
    text = record.read_text().replace(f'"threads": {torch.get_num_threads()}', '"threads": 99')
    assert '"threads": 99' in text
    record.write_text(text)
    told = run_main(train.main, tmp_path, *command(())).err
    assert "99 threads" in told
    assert len(told.splitlines()) == 1


def test_a_damaged_best_checkpoint_costs_its_own_numbers_alone(run_fast: Run, monkeypatch: Any) -> None:
    script_validations(monkeypatch)  # the third epoch is the best
    line = ("trainer.max_epochs=5",)
    path = run_fast(*line).path
    before = results(path)
    (path / "metrics.json").unlink()
    (path / "checkpoints" / "best.ckpt").write_bytes(b"")
    assert "no numbers of the best weights" in run_fast(*line).err
    assert results(path) == {name: value for name, value in before.items() if not name.startswith("best/")}


def test_a_damaged_last_checkpoint_never_takes_the_place_of_the_one_before(
    begun: Path, tmp_path: Path, monkeypatch: Any
) -> None:
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
def test_more_epochs_that_are_killed_before_they_begin_are_not_taken_for_done(
    run_fast: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (replace(self, to), seen.append(path.read_text()))[0])
    with replacing(path, former) as partial:
        partial.write_text("two")
    assert (seen, path.read_text(), former.read_text()) == (["one", "two"], "two", "one")


# two processes


def of_two(folder: Path, act: str) -> tuple[int, list[dict[str, Any]]]:
    launch = ("torch.distributed.run", "--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0")
    words = [sys.executable, "-m", *launch, "-m", "tests.helpers.two_interrupted", str(folder), act]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    files = [folder / f"{act}.{rank}" for rank in range(2)]
    assert all(file.exists() for file in files), done.stderr
    return done.returncode, [torch.load(file, weights_only=True) for file in files]


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_after_signals_kills_and_steps_that_break(tmp_path: Path) -> None:
    code, begun = of_two(tmp_path, "begin")
    assert code != 0  # the last training was killed
    code, completed = of_two(tmp_path, "go_on")
    assert code == 0
    for ours, later in zip(begun, completed, strict=True):
        whole = ours["whole"]
        assert (whole["steps"], whole["stopped"]) == (45, False)
        # told of by one of them, in the middle of a chunk: both stop at its end
        assert (ours["told"]["steps"], ours["told"]["stopped"]) == (25, True)
        for again in (ours["completed"], later["killed"]):
            assert again["steps"] == 45
            for name, value in whole["weights"].items():
                torch.testing.assert_close(again["weights"][name], value, rtol=1e-6, atol=1e-7)
        assert ours["skipping"]["skipped"] == 1
        assert not torch.equal(
            *(ours[key]["weights"]["vae.decoder.head.logits.linear.bias"] for key in ("skipping", "whole"))
        )
    for name, value in begun[0]["skipping"]["weights"].items():
        assert torch.equal(value, begun[1]["skipping"]["weights"][name]), name
