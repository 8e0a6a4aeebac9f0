"""The list of runs: what it shows, also of damaged and of strangers' folders, and what it removes."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, results, run_main
from tests.helpers.sweep_folders import killed_job, plan, running_job, stopped_job
from vaelab import evaluate
from vaelab import list as listing
from vaelab.reporting.listing import chosen, runs_in
from vaelab.reporting.values import COLUMNS

CURVE = "samples_seen,steps,val/elbo\n1438,15,-50.0\n2000,21,-45.0\n"


@pytest.fixture
def run_list(tmp_path: Path) -> Run:
    """`run_list("sort=bound", code=0)`: vaelab.list in `tmp_path`."""
    return lambda *words, code=0: run_main(listing.main, tmp_path, *words, code=code)


def rows(folder: str = "logs", **options: Any) -> list[dict[str, Any]]:
    """The rows of the runs that match, as `--json` prints them."""
    everything: dict[str, Any] = {"state": None, "find": (), "at_least": None, "sort": "run", "best": False}
    return [run.row for run in chosen(runs_in(Path(folder)), **everything | options)]


def checkpoint(path: Path, size: int) -> None:
    """A checkpoint that can be read, with so many weights."""
    torch.save({"counts": {"steps": 1, "samples_seen": 100}, "state_dict": {"w": torch.zeros(size)}}, path)


def done(parent: Path, *overrides: str, bound: float, pixels: str = "binary", epochs: int = 3) -> Path:
    """A run that is done, with two checkpoints to spare."""
    with running_job(parent, *overrides, pixels=pixels) as folder:
        for i, name in enumerate(("last", "previous", "best"), start=1):
            checkpoint(folder.checkpoints / f"{name}.ckpt", i)
        folder.finish({"val/elbo": bound, "epochs": epochs, "best/val/elbo": bound + 1})
    return folder.path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two single runs, and a sweep of four jobs in different states, of which one waits; for reading only."""
    logs = tmp_path_factory.mktemp("made")
    done(logs / "runs", "seed=0", bound=-60.0)
    stopped_job(logs / "runs", ValueError("too wide"), "seed=1")
    sweep = logs / "sweeps" / "look"
    bernoulli, gaussian = ("decoder=bernoulli",), ("decoder=gaussian", "latent_dim=5")
    plan(sweep, bernoulli, gaussian, ("decoder=gaussian", "latent_dim=7"), ("decoder=gaussian", "latent_dim=9"))
    done(sweep, *bernoulli, bound=-40.0, epochs=2)
    done(sweep, *gaussian, bound=-80.0, pixels="unit")
    path = killed_job(sweep, "decoder=gaussian", "latent_dim=7")
    (path / "curves.csv").write_text(CURVE)
    return logs


@pytest.fixture
def logs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these runs, in the folder `logs` of the working folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "logs", symlinks=True)


def test_a_row_says_what_a_run_is_and_what_it_came_to(finished: Outcome, run_list: Run) -> None:
    (row,) = json.loads(run_list(f"folder={finished.cwd}", "json=true").out)
    assert tuple(row) == (*COLUMNS, "problem")
    metrics, files = results(finished.path), [path for path in finished.path.rglob("*") if path.is_file()]
    expected = {"state": "done", "bound": metrics["val/elbo"], "epochs": 2, "data": "digits binary dynamic"}
    expected |= {"size": sum(file.stat().st_size for file in files), "setting": ""}
    expected |= {"date": json.loads((finished.path / "status.json").read_text())["updated"], "problem": None}
    assert expected.items() <= row.items()
    assert Path(row["run"]).name == finished.path.name


@pytest.mark.usefixtures("logs")
def test_runs_and_jobs_of_sweeps_are_listed() -> None:
    found = {row["run"]: (row["state"], row["bound"], row["epochs"], row["setting"]) for row in rows()}
    assert found == {
        "logs/runs/seed_0": ("done", -60.0, 3, ""),
        "logs/runs/seed_1": ("failed", None, None, ""),
        "logs/sweeps/look/decoder_bernoulli": ("done", -40.0, 2, "decoder=bernoulli"),
        "logs/sweeps/look/decoder_gaussian-latent_dim_5": ("done", -80.0, 3, "decoder=gaussian latent_dim=5"),
        "logs/sweeps/look/decoder_gaussian-latent_dim_7": ("killed", -45.0, 2, "decoder=gaussian latent_dim=7"),
    }
    assert [row["problem"] for row in rows(state="failed")] == ["ValueError: too wide"]


def test_the_table_has_a_line_for_each_run(logs: Path, run_list: Run) -> None:
    header, *lines, total = run_list("sort=bound").out.splitlines()
    assert header.split() == list(COLUMNS)
    assert [line.split()[0] for line in lines] == ["done", "killed", "done", "done", "failed"]
    assert lines[0].split()[1:3] == ["-40.00", "2"]
    assert re.search("  logs/runs/seed_1 +ValueError: too wide$", lines[-1])
    assert total.startswith("5 runs, 0.0 MB")


# filters


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"state": "done"}, {"seed_0", "decoder_bernoulli", "decoder_gaussian-latent_dim_5"}),
        ({"find": ["Gaussian"]}, {"decoder_gaussian-latent_dim_5", "decoder_gaussian-latent_dim_7"}),
        ({"find": ["gaussian", "latent_dim=5.0"]}, {"decoder_gaussian-latent_dim_5"}),
        ({"find": ["objective.closed_form=true", "trainer.max_epochs=1", "seed=1"]}, {"seed_1"}),
        ({"find": ["seed=0", "compile=false"], "folder": "logs/runs"}, {"seed_0"}),
        ({"find": ["latent_dim=50"]}, set()),
        ({"at_least": -50}, {"decoder_bernoulli", "decoder_gaussian-latent_dim_7"}),
        ({"folder": "logs/sweeps/look", "state": "done"}, {"decoder_bernoulli", "decoder_gaussian-latent_dim_5"}),
        ({"folder": "logs/runs/seed_0"}, {"seed_0"}),
        # a mass and a density, of which neither is better
        ({"best": True}, {"decoder_bernoulli", "decoder_gaussian-latent_dim_5"}),
    ],
)
@pytest.mark.usefixtures("logs")
def test_filters_leave_the_runs_that_match(options: dict[str, Any], expected: set[str]) -> None:
    assert {Path(row["run"]).name for row in rows(**options)} == expected


def test_words_on_the_command_line_filter(finished: Outcome, run_list: Run) -> None:
    words = "find=[digits,decoder=bernoulli,data=digits,optimizer.lr=1e-3]"
    for more, number in (("best=true", 1), ("at_least=-1e9", 1), ("state=failed", 0)):
        assert len(json.loads(run_list("--json", f"folder={finished.cwd}", words, more).out)) == number


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.usefixtures("logs")
def test_rows_are_sorted_by_any_column(column: str) -> None:
    values = [row[column] for row in rows(sort=column, find=["latent_dim=20"])]  # whose bounds are comparable
    known = [value for value in values if value is not None]
    assert known == sorted(known, reverse=column in ("bound", "epochs", "size", "date"))
    assert values == known + [None] * (len(values) - len(known))


def test_a_folder_without_runs_gives_an_empty_list(tmp_path: Path, run_list: Run) -> None:
    (tmp_path / "logs" / "runs").mkdir(parents=True)
    assert json.loads(run_list("--json").out) == []
    assert run_list().out.splitlines()[-1] == "0 runs, 0.0 MB"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("folder=nowhere", FAILURE, ("nowhere is not a folder", "folder=logs")),
        ("state=lost", USAGE, ("state must be null, done", "lost")),
        ("sort=name", USAGE, ("sort must be state, bound",)),
        ("prune=all", USAGE, ("prune must be null, checkpoints or folders",)),
        ("at_least=high", USAGE, ("at_least must be a number", "high")),
        ("--jsonl", USAGE, ("--jsonl",)),
        ("-m seed=1", USAGE, ("-m works only with vaelab.train",)),
    ],
)
def test_a_wrong_list_is_refused_in_one_line(
    words: str, code: int, told: tuple[str, ...], logs: Path, run_list: Run
) -> None:
    assert_one_line(run_list(*words.split(), code=code), *told)


# damaged folders, and strangers'


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "status.json": lambda run: (run / "status.json").write_text("{"),
    "its date": lambda run: (run / "status.json").write_text('{"state": "done", "updated": "soon"}'),
    "a huge date": lambda run: (run / "status.json").write_text('{"updated": "0001-01-01T00:00:00+23:00"}'),
    "config.yaml": lambda run: (run / "config.yaml").write_text("!!python/object:os.system {}"),
    "no config.yaml": lambda run: (run / "config.yaml").unlink(),
    "its choices": lambda run: (run / "config.yaml").write_text("format_version: 2\nruntime: {choices: 3}"),
    "metrics.json": lambda run: (run / "metrics.json").write_text('{"val/elbo": "high"}'),
    "record.json": lambda run: (run / "record.json").write_text('{"data": {"name": 3}}'),
    "a link": lambda run: (run / "status.json").symlink_to((run / "status.json").rename(run / "moved")),
    "everything": lambda run: [(run / name).unlink() for name in ("config.yaml", "metrics.json", "record.json")],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_folder_is_one_row(kind: str, logs: Path) -> None:
    before = rows()
    DAMAGE[kind](logs / "runs" / "seed_0")
    damaged, *others = rows()
    assert (damaged["run"], damaged["state"]) == ("logs/runs/seed_0", "damaged")
    assert damaged["problem"]
    assert others == before[1:]


def test_a_folder_of_another_program_is_no_run(logs: Path) -> None:
    other = logs / "project"
    (other / "checkpoints").mkdir(parents=True)
    (other / "config.yaml").write_text("a: 1")
    assert len(rows()) == 5


def test_damaged_curves_and_plans_cost_only_what_they_hold(logs: Path, run_list: Run) -> None:
    sweep = logs / "sweeps" / "look"
    (sweep / "decoder_gaussian-latent_dim_7" / "curves.csv").write_text("samples_seen,steps,val/elbo\n1,1,high\n")
    (sweep / "sweep.json").write_text("[]")
    outcome = run_list("json=true")
    assert [row["state"] for row in json.loads(outcome.out)] == ["done", "failed", "done", "done", "damaged"]
    assert "the overrides of the jobs are unknown" in outcome.err


def test_a_strangers_texts_are_printable(logs: Path, run_list: Run) -> None:
    status = {"state": "failed", "error": "\x1b[2J\nsecond line", "updated": "2020-01-01T00:00:00"}
    run = (logs / "runs" / "seed_1").rename(logs / "runs" / "\x1b[31m\nred")
    (run / "status.json").write_text(json.dumps(status))
    table, machine = run_list().out, run_list("--json").out
    assert "\x1b" not in table + machine
    assert len(table.splitlines()) == 7
    assert len(json.loads(machine)) == 5


def test_links_are_not_followed(logs: Path, tmp_path: Path) -> None:
    before = rows()
    elsewhere = done(tmp_path / "elsewhere", "seed=5", bound=-1.0)
    (logs / "runs" / "linked").symlink_to(elsewhere)
    (logs / "runs" / "seed_0" / "wandb").symlink_to(elsewhere)
    link = len(os.fsencode(elsewhere))
    found = rows()
    assert [row["run"] for row in found] == [row["run"] for row in before]
    assert found[0]["size"] in (before[0]["size"], before[0]["size"] + link)


# removing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_finished_runs_keep_their_best_checkpoint(logs: Path, run_list: Run) -> None:
    kept = {path: path.read_bytes() for path in logs.rglob("*") if path.is_file() and path.parts[-2] != "checkpoints"}
    (logs / "runs" / "seed_1" / "checkpoints" / "last.ckpt").touch()
    spare = sum(path.stat().st_size for name in ("last", "previous") for path in logs.rglob(f"{name}.ckpt"))
    said = run_list("prune=checkpoints", "yes=true").out
    assert said.splitlines()[-1] == f"removed: checkpoints of 3 runs, {spare:,} bytes"
    assert names(logs / "runs" / "seed_0" / "checkpoints") == ["best.ckpt"]
    assert names(logs / "runs" / "seed_1" / "checkpoints") == ["last.ckpt"]  # which it resumes from
    assert kept.items() <= {path: path.read_bytes() for path in kept}.items()
    assert "nothing to remove" in run_list("prune=checkpoints", "yes=true").out


def test_a_run_whose_best_checkpoint_is_damaged_keeps_the_others(logs: Path, run_list: Run) -> None:
    damaged = logs / "runs" / "seed_0"
    best = damaged / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-100])
    outcome = run_list("prune=checkpoints", "yes=true", code=FAILURE)
    assert "1 of 3 runs were left alone: logs/runs/seed_0 keeps all its checkpoints, because " in outcome.err
    assert "best.ckpt cannot be loaded" in outcome.err
    assert names(damaged / "checkpoints") == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert names(logs / "sweeps" / "look" / "decoder_bernoulli" / "checkpoints") == ["best.ckpt"]


def test_a_run_without_a_best_checkpoint_keeps_its_last(logs: Path, run_list: Run) -> None:
    checkpoints = logs / "runs" / "seed_0" / "checkpoints"
    (checkpoints / "best.ckpt").unlink()
    run_list("prune=checkpoints", "yes=true")
    assert names(checkpoints) == ["last.ckpt", "previous.ckpt"]


def test_whole_folders_are_removed_of_runs_that_match_only(logs: Path, run_list: Run) -> None:
    said = run_list("find=gaussian", "prune=folders", "yes=true").out
    assert "2 runs" in said
    assert names(logs / "sweeps" / "look") == [".lock", "decoder_bernoulli", "sweep.json"]
    assert names(logs / "runs") == ["seed_0", "seed_1"]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("YES ", 0), ("", 1), ("n", 1), ("yess", 1)])
def test_pruning_asks_on_a_terminal(
    answer: str, left: int, logs: Path, run_list: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda question: (asked.append(question), answer)[1])
    out = run_list("state=failed", "prune=folders").out
    assert (logs / "runs" / "seed_1").exists() == bool(left)
    assert "logs/runs/seed_1" in out
    assert ("nothing was removed" in out) == bool(left)
    assert asked[0].startswith("remove the folders of 1 run, ")


def test_pruning_without_a_terminal_is_refused(logs: Path, run_list: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    outcome = run_list("prune=folders", code=USAGE)
    assert "yes=true" in outcome.err
    assert len(names(logs / "runs")) == 2


def test_a_run_that_is_running_is_left_alone(logs: Path, run_list: Run) -> None:
    with running_job(logs / "runs", "seed=2") as folder:
        (folder.checkpoints / "best.ckpt").touch()
        (folder.checkpoints / "last.ckpt").touch()
        for what in ("checkpoints", "folders"):
            run_list("find=seed_2", f"prune={what}", "yes=true")
        assert names(folder.checkpoints) == ["best.ckpt", "last.ckpt"]
        folder.finish({})


def test_a_run_that_begins_meanwhile_is_left_alone(logs: Path, run_list: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    run = logs / "runs" / "seed_1"
    held = FileLock(run / ".lock")
    begins: list[Callable[[], Any]] = [held.acquire, lambda: os.utime(run / "status.json", (0, 0))]
    for begin, words in zip(begins, ("is in use", "has changed meanwhile"), strict=True):
        monkeypatch.setattr("builtins.input", lambda question, begin=begin: (begin(), "y")[1])
        outcome = run_list("state=failed", "prune=folders", code=FAILURE)
        assert f"1 of 1 runs were left alone: logs/runs/seed_1 {words}" in outcome.err
        held.release()
    assert run.exists()


def test_pruning_removes_nothing_behind_a_link(logs: Path, tmp_path: Path, run_list: Run) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("seed_0", "seed_1"):
        shutil.copytree(logs / "runs" / "seed_0" / "checkpoints", elsewhere / name)
    seed_0, seed_1 = logs / "runs" / "seed_0", logs / "runs" / "seed_1"
    shutil.rmtree(seed_0 / "checkpoints")
    (seed_0 / "checkpoints").symlink_to(elsewhere / "seed_0")
    shutil.rmtree(seed_1 / "checkpoints")
    (seed_1 / "checkpoints").symlink_to(elsewhere / "seed_1")
    run_list("folder=logs/runs", "prune=checkpoints", "yes=true")
    run_list("folder=logs/runs", "prune=folders", "yes=true")
    assert names(logs / "runs") == []
    for name in ("seed_0", "seed_1"):
        assert names(elsewhere / name) == ["best.ckpt", "last.ckpt", "previous.ckpt"]


def test_the_best_weights_evaluate_after_pruning(copied: Path, tmp_path: Path, run_list: Run) -> None:
    run_list("prune=checkpoints", "yes=true")
    assert names(copied / "checkpoints") == ["best.ckpt"]
    run_main(evaluate.main, tmp_path, f"run_dir={copied}", "checkpoint=best", "inference_gap=false")
    found = json.loads((copied / "evaluation.json").read_text())
    assert found["test/elbo"] == results(copied)["best/test/elbo"]
