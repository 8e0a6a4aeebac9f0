"""Training that several processes share: one run, in one folder, whatever becomes of one of them."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.commands import ROOT, Run, fast, only_run, results, status, steps_in, wait_until, weights
from vaelab.runs import execute as complete

TWO = "devices=2"
# three minibatches of 479 and a last one of a single example, of which one of two processes gets none
WITHOUT_NOISE = (
    *("objective._target_=tests.helpers.two_processes.WithoutNoise", "data.binarize=threshold", "batch_size=479"),
    *("optimizer._target_=torch.optim.SGD", "optimizer.lr=0.01", "weight_prior=normal", "trainer.max_epochs=2"),
)


def files(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def eventful(act: str, **more: object) -> tuple[str, ...]:
    """A line whose run has something happen at step 22 of 45, of chunks of 5 and epochs of 15, in process 1."""
    options = [f"+objective.{name}={value}" for name, value in {"act": f"'{act}'", **more}.items()]
    return ("objective._target_=tests.helpers.sharing.Eventful", *options, "trainer.max_epochs=3", "steps_per_call=5")


def assert_close(path: Path, other: Path, rel: float = 1e-5) -> None:
    """The same weights and metrics, to rounding."""
    ours, theirs = weights(path), weights(other)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=rel, atol=1e-6, msg=name)
    assert results(path) == pytest.approx(results(other), rel=rel, abs=1e-5)


@pytest.mark.slow
def test_a_run_of_two_processes_is_that_of_one(run_fast: Run, tmp_path: Path) -> None:
    alone = run_fast(*WITHOUT_NOISE, "name=one", figures=True).path
    shared = run_fast(*WITHOUT_NOISE, "name=two", TWO, figures=True).path
    assert_close(shared, alone)
    assert results(shared)["steps"] == 8
    assert results(shared)["samples_seen"] == 2 * 1438
    assert files(shared) == files(alone)
    assert len(list(tmp_path.glob("logs/*/*"))) == 2
    tables = [np.genfromtxt(path / "curves.csv", delimiter=",", skip_header=1) for path in (shared, alone)]
    np.testing.assert_allclose(*tables, rtol=1e-5, atol=1e-5)
    assert shared.name.removeprefix("two") == alone.name.removeprefix("one")  # the number of devices is not science
    record = json.loads((shared / "record.json").read_text())
    assert record["environment"]["processes"] == 2
    assert (status(shared)["state"], status(shared)["pid"]) == ("done", os.getpid())
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_another_number_of_processes_completes_a_run_that_failed(run_fast: Run, tmp_path: Path) -> None:
    line, words = eventful("raise"), 'process 1 of 2 failed: "something of the user\'s own" (KeyError)'
    outcome = run_fast(*line, TWO, code=1)
    assert outcome.err == f"vaelab: {words}\n"
    path = only_run(tmp_path)
    assert (status(path)["state"], status(path)["error"]) == ("failed", f"ProcessError: {words}")
    log = (path / "train.log").read_text()
    assert "Traceback" in log
    assert "in fail\n" in log
    assert steps_in(path) == 15
    assert run_fast(*line).path == path
    told = "the run began with 2 processes, and now has 1: the noise differs from here on"
    assert told in (path / "train.log").read_text()
    assert steps_in(path) == 45


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(run_fast: Run, tmp_path: Path) -> None:
    run_fast(*eventful("tell one"), TWO, code=143)
    path = only_run(tmp_path)
    assert steps_in(path) == 25  # the end of the chunk
    assert status(path)["state"] == "interrupted"
    assert run_fast(*eventful("tell one"), TWO).path == path
    assert_close(path, run_fast(*eventful("tell one"), "name=whole", TWO).path)


@pytest.mark.slow
def test_ctrl_c_is_one_signal_to_each_process(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "vaelab.train", *fast(*eventful("wait", mark=tmp_path / "mark"), TWO)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    process = subprocess.Popen(
        line, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_until((tmp_path / "mark").exists, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    (tmp_path / "mark").unlink()  # which lets the step go on
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    path, name = only_run(tmp_path), "SIGINT" if "SIGINT" in err else "SIGTERM"
    assert err.splitlines() == [
        f"vaelab: {name}: stopping after this step, with a checkpoint; Ctrl-C stops at once",
        f"vaelab: stopped after step 25: type the same command again, and {path.relative_to(tmp_path)} goes on",
    ]
    assert status(path)["state"] == "interrupted"
    assert steps_in(path) == 25  # the end of the chunk, inside an epoch


@pytest.mark.slow
def test_a_step_that_breaks_in_one_process_is_told_of(run_fast: Run, tmp_path: Path) -> None:
    line = ("objective._target_=tests.helpers.sharing.Breaking", "trainer.max_epochs=3", "steps_per_call=5", TWO)
    outcome = run_fast(*line, code=1)
    assert "diverged: at step 22, a term of the objective (loss) for 1 of 100 examples (training images " in outcome.err
    path = only_run(tmp_path)
    details = status(path)["details"]
    assert len(set(details["batch"])) == 100
    assert set(details["examples"]) < set(details["batch"])
    assert steps_in(path) == 21
    assert results(run_fast(*line, "on_nan=skip").path)["skipped_steps"] == 1


@pytest.mark.slow
def test_seeds_that_share_processes_come_one_after_another(run_fast: Run, tmp_path: Path) -> None:
    run_fast("seeds=2", TWO)
    assert [status(path)["state"] for path in tmp_path.glob("logs/runs/*")] == ["done", "done"]


def test_a_finished_run_starts_no_processes(copied: Path, run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "launch", lambda *_: pytest.fail("started"))
    assert "finished before" in run_fast("trainer.max_epochs=2", TWO, figures=True).out
