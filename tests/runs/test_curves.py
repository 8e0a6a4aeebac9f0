"""`curves.csv`: what it holds after interruptions, and how a damaged or hostile one is refused."""

from pathlib import Path
from unittest.mock import Mock

import pytest

from tests.helpers.commands import Outcome, Run, curve_rows, failing_at, results
from tests.helpers.training import script_validations
from vaelab.errors import RunFolderError
from vaelab.runs.folder import curves as reading
from vaelab.runs.folder.curves import COUNTS, read_curves
from vaelab.runs.tracking.curves import Curves
from vaelab.training import VAEModule
from vaelab.training.step import Step

TRAIN = {"train/loss", "train/elbo", "train/reconstruction", "train/kl"}
VAL = {"val/elbo", "val/reconstruction", "val/kl"}
EPOCH = 1438  # examples, in 15 steps


def test_every_run_has_its_curves(finished: Outcome) -> None:
    found, curves = curve_rows(finished.path), read_curves(finished.path)
    assert tuple(found[0])[:2] == COUNTS
    assert [(row["samples_seen"], row["steps"]) for row in found] == [("1438", "15")] * 2 + [("2876", "30")] * 2
    assert curves.keys() == TRAIN | VAL
    for curve in curves.values():
        assert [x for x, _ in curve] == [EPOCH, 2 * EPOCH]
    for name in VAL:
        assert curves[name][-1][1] == results(finished.path)[name]


@pytest.mark.slow
def test_the_learning_rate_and_the_objectives_own_metrics_are_curves(run_fast: Run) -> None:
    curves = read_curves(run_fast("lr_schedule=cosine", "decoder=gaussian").path)
    assert curves.keys() > TRAIN | VAL | {"train/learning_rate", "val/bits_per_dim"}


@pytest.mark.slow
def test_metrics_of_a_users_callback_are_curves(run_fast: Run) -> None:
    curves = read_curves(run_fast("+callbacks.rate._target_=pytorch_lightning.callbacks.LearningRateMonitor").path)
    assert curves.keys() == TRAIN | VAL | {"lr-Adam"}


@pytest.mark.slow
def test_an_interrupted_run_has_the_curves_of_a_whole_one(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("trainer.val_check_interval=4", "steps_per_call=2", "checkpoint_every_n_steps=3", "trainer.max_epochs=2")
    script_validations(monkeypatch)
    for owner, method, call in (
        (Step, "__call__", 14),
        (VAEModule, "on_validation_epoch_end", 2),
        (VAEModule, "test_step", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, failing_at(call, getattr(owner, method), ZeroDivisionError()))
            run_fast(*line, code=1)
    path, whole = run_fast(*line).path, run_fast(*line, "name=whole").path
    assert (path / "curves.csv").read_bytes() == (whole / "curves.csv").read_bytes()


@pytest.mark.slow
def test_each_of_several_seeds_has_its_curves(run_fast: Run, tmp_path: Path) -> None:
    run_fast("seeds=2", "stacked=true")
    one, other = (read_curves(path) for path in sorted(tmp_path.glob("logs/runs/*")))
    assert one.keys() == other.keys() == TRAIN | VAL
    assert one["train/loss"] != other["train/loss"]


# the file


class Writer:
    """Writes rows as training does, at a count of samples that the test sets."""

    def __init__(self, folder: Path, resumed_at: int = 0) -> None:
        self.module = Mock(spec=VAEModule)
        self.curves = Curves(folder, resumed_at, self.module)

    def log(self, samples_seen: int, fn: str = "fit", **metrics: float) -> None:
        self.module.samples_seen, self.module.steps = samples_seen, samples_seen // 10
        self.module.trainer.state.fn = fn
        self.curves.log_metrics(metrics)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A table of four rows, written in three parts, of which the last has a new column."""
    writer = Writer(tmp_path)
    writer.log(10, a=1.5)
    writer.log(20, a=2.5)
    writer.curves.save()
    writer.log(30, a=float("nan"))
    writer.curves.save()
    writer.log(40, b=4.5)
    writer.log(40, fn="test", b=9.9)
    writer.curves.finalize("success")
    return tmp_path


def test_a_metric_that_comes_late_is_a_new_column(written: Path) -> None:
    expected = "samples_seen,steps,a,b\n10,1,1.5,\n20,2,2.5,\n30,3,nan,\n40,4,,4.5\n"
    assert (written / "curves.csv").read_text() == expected
    assert read_curves(written)["b"] == [(40, 4.5)]
    assert read_curves(written)["a"][:2] == [(10, 1.5), (20, 2.5)]


@pytest.mark.parametrize("tail", ["", "40,4,,4.", "4", "\0\0\0\n\0\0", "50,5,1,2\n20,2,1,1\n"])
def test_what_follows_the_checkpoint_is_replaced(tail: str, written: Path) -> None:
    file = written / "curves.csv"
    file.write_text(file.read_text() + tail)
    writer = Writer(written, resumed_at=20)
    writer.curves.save()
    assert file.read_text().endswith(tail)  # nothing is lost before training has got anywhere
    writer.log(30, a=3.5)
    writer.curves.save()
    assert file.read_text() == "samples_seen,steps,a,b\n10,1,1.5,\n20,2,2.5,\n30,3,3.5,\n"


def test_rows_that_did_not_fit_on_the_disk_are_written_later(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, writer = written / "curves.csv", Writer(written, resumed_at=40)
    before = file.read_bytes()
    writer.log(50, a=5.5)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="full"):
            writer.curves.save()
    writer.log(60, b=6.5)
    writer.curves.save()
    assert file.read_bytes() == before + b"50,5,5.5,\n60,6,,6.5\n"


def test_a_folder_without_curves_has_none(tmp_path: Path) -> None:
    assert read_curves(tmp_path) == {}


def test_a_row_that_is_half_written_is_left_out(written: Path) -> None:
    before = read_curves(written)
    with (written / "curves.csv").open("a") as file:
        file.write("50,5,1.")
    assert str(read_curves(written)) == str(before)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the columns are"),
        (b"a,b\n1,2\n", "the columns are a,b"),
        (b"samples_seen,steps,\x1b[31m\n", "the columns are"),
        (b"samples_seen,steps,a\n1,1,2,3\n", "zip"),
        (b"samples_seen,steps,a\n1,1,__import__('os')\n", "could not convert"),
        (b"samples_seen,steps,a\nnan,1,2\n", "samples_seen is not a count"),
        (b"samples_seen,steps,a\n" + b"1" * 200_000 + b",1,2\n", "field larger"),
        (b"\xff\n", "decode"),
    ],
)
def test_another_table_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "curves.csv").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"curves\.csv is damaged") as caught:
        read_curves(tmp_path)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_huge_file_or_a_link_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reading, "LIMIT", 10)
        with pytest.raises(RunFolderError, match="holds more than 10 bytes"):
            read_curves(written)
    file = written / "curves.csv"
    file.symlink_to(file.rename(file.with_name("moved")))
    with pytest.raises(RunFolderError, match="is a link"):
        read_curves(written)
