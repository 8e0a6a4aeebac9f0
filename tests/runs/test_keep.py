"""`keep=best`: what a finished run keeps, and that whatever reads it gives the right answer or one clear line."""

from pathlib import Path
from typing import Any

import pytest

import vaelab
from tests.helpers.commands import (
    FAILURE,
    Outcome,
    Run,
    assert_one_line,
    assert_same_weights,
    evaluation,
    fast,
    only_run,
    results,
    run_main,
    status,
)
from tests.helpers.training import script_validations
from vaelab import evaluate, export, report
from vaelab.errors import RunFolderError
from vaelab.runs.folder import contents
from vaelab.training import VAEModule


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


@pytest.mark.slow
def test_only_the_best_checkpoint_stays_and_nothing_else_changes(
    kept: Outcome, runs_of_five_epochs: dict[str, Outcome], run_fast: Run
) -> None:
    whole = runs_of_five_epochs["all"].path
    assert checkpoints(kept.path) == ["best.ckpt"]
    assert checkpoints(whole) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    assert_same_weights(kept.path, whole, "best")
    assert results(kept.path) == results(whole)
    assert kept.path.name == whole.name
    for keep in ("best", "all"):
        table, finished_before, _ = run_fast("trainer.max_epochs=5", f"keep={keep}").out.partition("finished before")
        assert finished_before
        assert table in kept.out


@pytest.mark.slow
def test_a_run_without_its_last_checkpoint_is_not_continued(kept: Outcome, run_fast: Run) -> None:
    before = status(kept.path)
    for keep in ("best", "all"):
        refused = run_fast("trainer.max_epochs=6", f"keep={keep}", code=FAILURE)
        assert_one_line(refused, "no last.ckpt to continue from", "rerun=true")
    assert status(kept.path) == before
    again = run_fast("trainer.max_epochs=1", "rerun=true").path
    assert checkpoints(again) == ["best.ckpt", "last.ckpt"]


@pytest.mark.slow
def test_python_opens_the_weights_that_are_there(kept: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kept.cwd)
    run = vaelab.fit(fast("trainer.max_epochs=5", "keep=best"))
    assert (run.path, run.weights) == (kept.path, "best")
    assert run.vae.latent_dim == 2
    with pytest.raises(RunFolderError, match=r'last\.ckpt does not exist: .* weights="best" in Python'):
        _ = vaelab.load(run.path).vae


def test_the_best_weights_are_evaluated_and_exported(kept: Outcome, tmp_path: Path) -> None:
    for main in (evaluate.main, export.main):
        refused = run_main(main, tmp_path, f"run_dir={kept.path}", code=FAILURE)
        assert_one_line(refused, "last.ckpt does not exist: type checkpoint=best")
    run_main(export.main, tmp_path, f"run_dir={kept.path}", "checkpoint=best")
    run_main(evaluate.main, tmp_path, f"run_dir={kept.path}", "checkpoint=best", "inference_gap=false")
    assert checkpoints(kept.path) == ["best.ckpt", "best.safetensors"]
    found = evaluation(kept.path)
    for name in ("elbo", "kl", "log_likelihood"):
        assert found[f"test/{name}"] == results(kept.path)[f"best/test/{name}"]


@pytest.mark.slow
def test_a_run_that_is_not_done_keeps_what_it_resumes_from(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("keep=best", "trainer.max_epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(VAEModule, "test_step", lambda *_: 1 / 0)
        run_fast(*line, code=FAILURE)
    assert checkpoints(only_run(tmp_path)) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    path = run_fast(*line).path
    assert checkpoints(path) == ["best.ckpt"]
    assert results(path) == results(run_fast(*line, "name=whole").path)


def test_a_run_without_a_best_checkpoint_keeps_its_last(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch, lambda steps: float("nan"))
    assert checkpoints(run_fast("keep=best").path) == ["last.ckpt"]


def test_a_best_checkpoint_that_cannot_be_read_keeps_the_others(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(path: Path) -> dict[str, Any]:
        raise RunFolderError(f"{path.name} cannot be loaded (it is damaged)")

    monkeypatch.setattr(contents, "load_checkpoint", damaged)
    outcome = run_fast("keep=best")
    assert checkpoints(outcome.path) == ["best.ckpt", "last.ckpt"]
    assert "keeps all its checkpoints, because best.ckpt cannot be loaded (it is damaged)" in outcome.err
    assert status(outcome.path)["state"] == "done"


@pytest.mark.slow
def test_jobs_and_seeds_keep_their_best_checkpoint(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "keep=best", "latent_dim=2,3", "seeds=2", "sweep.name=look")
    sweep = tmp_path / "logs" / "sweeps" / "look"
    runs = [path.parent for path in sweep.glob("*/metrics.json")]
    assert [checkpoints(run) for run in runs] == [["best.ckpt"]] * 4
    assert "4 done" in run_main(report.main, tmp_path, f"sweep={sweep}").out
    assert "2 of 2 jobs need not run" in run_fast("-m", "keep=best", "latent_dim=2,3", "seeds=2", "sweep.name=look").out
