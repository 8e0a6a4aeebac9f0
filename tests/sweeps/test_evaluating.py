"""`python -m vaelab.evaluate sweep=`: all finished runs of a sweep, several at a time."""

import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, composing, evaluation
from vaelab.errors import RunFolderError, SweepError
from vaelab.runs.evaluating.session import Evaluation
from vaelab.signals import Stop
from vaelab.sweeps.evaluating import EvaluationJob, evaluate_sweep, planned
from vaelab.sweeps.folder import Job
from vaelab.sweeps.job import JobSpec
from vaelab.sweeps.job import Outcome as Ending
from vaelab.sweeps.launchers.base import JobsLauncher, Running
from vaelab.sweeps.launchers.on_submitit import folder_for

QUICK = ("limit=20", "num_samples=3", "inference_gap=false")
QUICK_ALL = ("estimator=all", "estimator.ais.num_temperatures=3", "estimator.ais.num_chains=2")
QUICK_ALL += tuple(f"estimator.hmc.{value}" for value in ("num_burn_in=2", "num_draws=5", "num_chains=20"))
LAUNCHERS = (
    "here",
    pytest.param("local", marks=pytest.mark.slow),
    *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("submitit_local", "ray")),
)


class Here(JobsLauncher):
    """Does the jobs in this process, one after another, after a journey as to another process."""

    def __init__(self, n_jobs: int | None = None, jobs_per_gpu: int = 1) -> None:
        """Take the options of `local`."""

    def run(self, jobs: Sequence[JobSpec]) -> Running:
        for job in jobs:
            try:
                yield job, pickle.loads(pickle.dumps(job)).work(Stop())
            except Exception as error:
                yield job, Ending("failed", error=str(error))

    def stop(self) -> None:
        raise AssertionError


@pytest.fixture
def sweep(finished: Outcome, tmp_path: Path) -> Path:
    """A sweep of two finished runs, a damaged one, one that failed, and one whose state is unknown."""
    path = tmp_path / "sweep"
    for name in ("a", "b", "broken", "failed", "unknown"):
        shutil.copytree(finished.path, path / name)
    last = path / "broken" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-500])
    status = json.loads((path / "failed" / "status.json").read_text())
    (path / "failed" / "status.json").write_text(json.dumps(status | {"state": "failed"}))
    (path / "unknown" / "status.json").write_text("[")
    return path


def evaluate_here(sweep: Path, *overrides: str) -> None:
    evaluate_sweep(composing(f"runtime.sweep={sweep}", *QUICK, *overrides, config="evaluate"), Here(), {})


def elbo(folder: Path) -> float:
    return evaluation(folder)["test/elbo"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_run_that_fails_stops_no_other(launcher: str, sweep: Path, finished: Outcome, run_evaluate: Run) -> None:
    before = (sweep / "failed" / "status.json").read_text()
    chosen = f"hydra.launcher.jobs={__name__}.Here" if launcher == "here" else f"hydra/launcher={launcher}"
    outcome = run_evaluate("sweep=sweep", *QUICK, chosen, code=FAILURE)
    assert outcome.err.splitlines()[-1] == "vaelab: 1 of 3 evaluations are not done; type the same command to go on"
    assert "failed: broken" in outcome.out
    assert "last.ckpt cannot be loaded" in outcome.out
    assert "left out, because they are not trained to the end: 1 failed, 1 damaged" in outcome.out
    assert elbo(sweep / "a") == elbo(sweep / "b")
    assert f"{elbo(sweep / 'a'):.3f}" in outcome.out
    shutil.copytree(finished.path, sweep / "broken", dirs_exist_ok=True)
    run_evaluate("sweep=sweep", *QUICK, chosen)
    assert elbo(sweep / "broken") == elbo(sweep / "a")
    assert (sweep / "failed" / "status.json").read_text() == before
    assert sorted(path.name for path in sweep.iterdir()) == ["a", "b", "broken", "failed", "unknown"]
    if launcher != "here":
        assert "evaluated before" in (sweep / "a" / "output.log").read_text()
        assert "Traceback" in (sweep / "broken" / "output.log").read_text()


@pytest.mark.slow
def test_only_what_is_left_is_evaluated(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(sweep / "broken")
    evaluate_here(sweep)
    ran: list[str] = []
    run = Evaluation.run
    monkeypatch.setattr(Evaluation, "run", lambda self: (ran.append(self.folder.name), run(self))[1])
    evaluate_here(sweep)
    assert ran == []
    next((sweep / "b" / "evaluations").glob("test-last-importance*.safetensors")).unlink()
    evaluate_here(sweep)
    assert ran == ["b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        (("estimator=refined",), ["refined"]),
        pytest.param(QUICK_ALL, ["importance", "refined", "ais", "hmc"], marks=pytest.mark.slow),
    ],
)
def test_all_runs_take_the_options_of_the_line(
    estimator: Sequence[str], names: list[str], sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(sweep / "broken")
    evaluate_here(sweep, "split=val", "checkpoint=best", *estimator, "limit=10")
    for name in "ab":
        found = evaluation(sweep / name)
        assert (found["checkpoint"], found["comparability"]["examples"]) == ("best", 10)
        assert found["comparability"]["estimators"].keys() == set(names)
    printed = " ".join(capsys.readouterr().out.split())
    assert "sweep sweep: val split, first 10 examples, best weights" in printed
    assert "val/elbo" in printed
    assert printed.count("log p(x), ") >= len(names)


@pytest.mark.slow
def test_each_run_gets_a_fitted_prior_of_its_own(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(sweep / "broken")
    evaluate_here(sweep, "prior=mixture", "prior.num_components=2")
    label = "MixtureOfGaussians(num_components=2, covariance=diagonal)"
    for name in "ab":
        assert evaluation(sweep / name)["comparability"]["fitted_prior"] == label
        assert list((sweep / name / "evaluations").glob("prior-last-*.safetensors"))
    assert f"fitted prior {label}" in " ".join(capsys.readouterr().out.split())


def test_each_run_may_use_the_packages_that_it_was_opened_with(sweep: Path) -> None:
    jobs = [Job(sweep / "a"), Job(sweep / "b")]
    cfg = composing(f"runtime.sweep={sweep}", "trust=[theirs]", config="evaluate")
    found = [job.config["trust"] for job in planned(cfg, jobs, {}, {sweep / "a": ["mine"]})]
    assert found == [["mine"], ["theirs"]]


def test_a_run_that_is_not_finished_is_refused(sweep: Path) -> None:
    cfg = composing(f"runtime.sweep={sweep}", *QUICK, config="evaluate")
    with pytest.raises(RunFolderError, match="failed is no finished run in"):
        evaluate_sweep(cfg, Here(), {}, {sweep / "a": [], sweep / "failed": []})
    assert not (sweep / "a" / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ("sweep=sweep run_dir=sweep/a", USAGE, "run_dir=sweep/a is one run, and sweep=sweep several: type one of them"),
        ("sweep=sweep/a", FAILURE, "sweep/a has no finished runs to evaluate: give sweep=logs/sweeps/NAME"),
        ("sweep=nowhere", FAILURE, "nowhere has no finished runs"),
        ("sweep=sweep checkpoint=first", USAGE, "checkpoint must be last or best"),
        ("sweep=sweep trust=[vaelab.x]", USAGE, "trust"),
        ("sweep=sweep hydra.launcher.n_jobs=0", USAGE, "hydra.launcher.n_jobs must be"),
    ],
)
def test_a_line_that_evaluates_nothing_is_refused(
    typed: str, code: int, words: str, sweep: Path, run_evaluate: Run
) -> None:
    assert_one_line(run_evaluate(*typed.split(), code=code), words)
    assert list(sweep.glob("*/evaluation.json")) == []


def test_a_planted_link_is_not_written_through(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(sweep / "broken")
    loot = tmp_path / "loot"
    loot.write_text("mine")
    (sweep / "a" / "output.log").symlink_to(loot)
    with pytest.raises(SweepError, match="1 of 2 evaluations"):
        evaluate_here(sweep)
    assert loot.read_text() == "mine"
    assert "a/output.log is a link, expected a file" in capsys.readouterr().out


def test_clusters_tell_evaluations_apart(tmp_path: Path) -> None:
    line = {"run_dir": "s/a", "split": "test", "limit": 10}
    first, same, other = (
        EvaluationJob(config, tmp_path / "s" / "a", tmp_path, {}, "a") for config in (line, line, line | {"limit": 20})
    )
    assert first.name == same.name != other.name
    assert folder_for([first]) == tmp_path / ".submitit"  # not the sweep's own, which may be a stranger's
