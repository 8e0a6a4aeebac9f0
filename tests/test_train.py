"""The command line end to end: what a user types, and what lies there afterwards."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.helpers.commands import Outcome, Run, assert_same_weights, composing, evaluation, fast, results
from tests.helpers.training import script_validations, scripted_bound
from vaelab.evaluation.declared import OF_PREDICTIONS
from vaelab.runs.configuration import CONF
from vaelab.runs.results import show
from vaelab.training.step import Step

VALIDATED = ("val/elbo", "val/reconstruction", "val/kl")
TESTED = (
    *("test/elbo", "test/reconstruction", "test/kl", "test/rate", "test/distortion"),
    *("test/num_examples", "test/sampling_error", "test/rate_error", "test/distortion_error"),
    *("test/mutual_information", "test/mutual_information_limit", "test/marginal_kl"),
    *("test/mutual_information_error", "test/marginal_kl_error"),
    *("test/active_units", "test/latent_dim"),
    *("test/log_likelihood", "test/log_likelihood_sampling_error", "test/standard_error", "test/bias"),
    *("test/gain", "test/gain_error", "test/effective_sample_size", "test/num_samples"),
    *(f"test/{metric.name}" for metric in OF_PREDICTIONS),
)
TOLD = ("checkpoint", "comparability", "kl_per_dimension", "notes")


# a run


def test_a_run_leaves_its_artefacts_and_names_its_folder(finished: Outcome) -> None:
    assert finished.err == ""
    assert finished.path.parent == finished.cwd / "logs" / "runs"
    for name in ("config.yaml", "record.json", "status.json", "metrics.json", "train.log"):
        assert (finished.path / name).stat().st_size > 0
    assert {file.name for file in (finished.path / "checkpoints").iterdir()} == {
        *("last.ckpt", "best.ckpt", "previous.ckpt"),
    }
    assert [file.name for file in finished.cwd.iterdir()] == ["logs"]  # and nothing anywhere else


def test_metrics_have_the_promised_names_and_are_numbers(finished: Outcome) -> None:
    metrics = json.loads((finished.path / "metrics.json").read_text())
    counts = {"samples_seen", "steps"}
    assert set(metrics) == {
        *(prefix + name for name in (*VALIDATED, *TESTED) for prefix in ("", "best/")),
        *(prefix + name for name in counts for prefix in ("", "best/")),
        *("epochs", "seconds"),
    }
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["samples_seen"] == 2 * 1438
    assert metrics["steps"] == 2 * 15
    assert metrics["epochs"] == 2
    assert metrics["test/num_samples"] == 2
    assert metrics["seconds"] > 0


def test_the_bound_is_reconstruction_minus_kl_and_below_the_likelihood(finished: Outcome) -> None:
    metrics = results(finished.path)
    for split in ("val", "test", "best/val", "best/test"):
        bound = metrics[f"{split}/reconstruction"] - metrics[f"{split}/kl"]
        assert metrics[f"{split}/elbo"] == pytest.approx(bound, abs=1e-4)
    # with two samples the importance-weighted bound is the tighter one, in expectation
    assert metrics["test/log_likelihood"] > metrics["test/elbo"] - 0.1
    assert 1 <= metrics["test/effective_sample_size"] <= 2


def test_the_table_at_the_end_shows_the_stored_numbers(finished: Outcome) -> None:
    metrics = results(finished.path)
    assert "nats" in finished.out
    for name, form in {"test/elbo": ".2f", "test/kl": ".2f", "test/log_likelihood": ".2f", "samples_seen": ","}.items():
        assert format(metrics[name], form) in finished.out


def test_the_table_at_the_end_says_how_far_to_trust_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"log_likelihood": -90.12, "num_samples": 100, "pareto_k_bad": 0.2, "standard_error": 0.01, "bias": -0.02}
    metrics = {f"test/{name}": value for name, value in found.items()} | {"samples_seen": 7.0}
    show({"last weights": metrics, "best weights": metrics}, "closing", "importance")
    out = capsys.readouterr().out
    assert "lower bound of log p(x), importance │ -90.12" in out
    assert "importance, last weights: the proposal is poor for 20% of the examples (Pareto k above 0.50)" in out
    assert "importance, last weights: it is too low by at least 0.02 nats" in out
    assert "; use a larger estimator.num_samples=, or estimator=refined or ais\n" in out
    show({"last weights": metrics}, "closing", "refined")
    assert "or estimator=ais\n" in capsys.readouterr().out
    show({"last weights": metrics}, "closing", "importance", refused={"refined", "ais", "hmc"})
    assert "; use a larger estimator.num_samples=\n" in capsys.readouterr().out
    show({"last weights": metrics | {"test/pareto_k_bad": 0.0}}, "closing", "refined")
    assert "lower bound" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_estimate_is_refined_unless_told_otherwise(run_fast: Run, run_evaluate: Run) -> None:
    assert composing().estimator._target_ == "vaelab.estimators.RefinedImportanceSampling"
    outcome = run_fast("estimator=refined", "estimator.num_samples=30")
    assert "refined, last weights: the proposal is " in outcome.out
    run_evaluate(f"run_dir={outcome.path}", "inference_gap=false")
    name = "test/log_likelihood"
    assert evaluation(outcome.path)[name] == results(outcome.path)[name]


def test_the_same_command_elsewhere_gives_the_same_numbers(run_fast: Run, finished: Outcome) -> None:
    path = run_fast("trainer.max_epochs=2").path
    assert_same_weights(path, finished.path)
    assert results(path) == results(finished.path)
    assert not (path / "figures").exists()  # which change no number


@pytest.mark.slow
def test_another_seed_gives_other_weights_on_the_same_data(run_fast: Run) -> None:
    one, other = run_fast("seed=1").path, run_fast("seed=2").path
    assert results(one)["test/elbo"] != results(other)["test/elbo"]
    hashes = [json.loads((path / "record.json").read_text())["data"]["sha256"] for path in (one, other)]
    assert hashes[0] == hashes[1]


@pytest.mark.slow
def test_every_epoch_trains_on_every_example_once(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    step = Step.__call__

    def spy(self: Step, indices: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.extend(indices.tolist())
        return step(self, indices, *args, **kwargs)

    monkeypatch.setattr(Step, "__call__", spy)
    for steps in (20, 22):  # and is interrupted
        run_fast("trainer.max_epochs=2", f"trainer.max_steps={steps}")
    run_fast("trainer.max_epochs=2")
    first, second = seen[:1438], seen[1438:]
    assert sorted(first) == sorted(second) == list(range(1438))
    assert first != second


def test_training_raises_the_bound(run_fast: Run) -> None:
    short, long = run_fast("trainer.max_steps=1").path, run_fast("trainer.max_epochs=10", "optimizer.lr=0.01").path
    assert results(long)["val/elbo"] > results(short)["val/elbo"] + 5


@pytest.mark.slow
def test_a_density_is_also_told_in_bits(run_fast: Run) -> None:
    metrics = results(run_fast("decoder=gaussian_shared").path)
    expected = -metrics["test/elbo"] / (64 * math.log(2)) + math.log2(17)  # dequantised pixels of 17 levels
    assert metrics["test/bits_per_dim"] == pytest.approx(expected)


@pytest.mark.slow
def test_the_embedded_digits_are_the_default_and_need_nothing(run_train: Run, tmp_path: Path) -> None:
    small = ("trainer.max_steps=2", "estimator.num_samples=1", "hidden_features=4", "logger=none")
    path = run_train(*small, "~callbacks.figures", "data_dir=nowhere").path
    assert path.name.startswith("mnist5k-bernoulli-z20-s0-")
    assert not (tmp_path / "nowhere").exists()


# evaluate


def test_evaluate_reproduces_the_metrics_of_the_last_weights(
    finished: Outcome, tmp_path: Path, run_evaluate: Run
) -> None:
    path = Path(shutil.copytree(finished.path, tmp_path / "moved" / "here"))
    before = results(path)
    outcome = run_evaluate("run_dir=moved/here", "inference_gap=false")
    found = evaluation(path)
    assert found["checkpoint"] == "last"
    for name in (*TESTED, "samples_seen", "steps"):
        assert found.pop(name) == before[name], name
    assert set(found) == set(TOLD)
    assert f"{before['test/elbo']:.3f}" in outcome.out
    assert results(path) == before


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "best"), [(float, 75), (scripted_bound, 45)])  # best is last, and before
def test_evaluate_reproduces_the_metrics_of_the_best_weights(
    bound: Callable[[int], float], best: int, run_fast: Run, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        script_validations(patch, bound)
        path = run_fast("trainer.max_epochs=5").path
    before = results(path)
    assert (before["best/steps"], before["steps"]) == (best, 75)
    run_evaluate(f"run_dir={path}", "checkpoint=best")
    found = evaluation(path)
    assert found["checkpoint"] == "best"
    for name in (*TESTED, "samples_seen", "steps"):
        assert found[name] == before[f"best/{name}"], name


@pytest.mark.slow
@pytest.mark.parametrize("line", [("decoder=gaussian", "model=shared"), ("decoder=gaussian_optimal",)], ids=" ".join)
def test_evaluate_reproduces_other_models(line: tuple[str, ...], run_fast: Run, run_evaluate: Run) -> None:
    path = run_fast(*line, "initialization=normal", "weight_prior=normal").path
    run_evaluate(f"run_dir={path}")
    found = evaluation(path)
    for name in (*TESTED, "test/bits_per_dim", "test/log_likelihood_bits_per_dim"):
        assert found[name] == results(path)[name], name


# help and configuration


def test_cfg_job_prints_the_configuration_and_runs_nothing(run_train: Run, tmp_path: Path) -> None:
    outcome = run_train("--cfg=job", "latent_dim=7", "decoder=gaussian")
    config = yaml.safe_load(outcome.out)
    assert config["latent_dim"] == 7
    assert config["decoder"]["head"]["_target_"] == "vaelab.heads.DiagonalGaussian"
    assert list(tmp_path.iterdir()) == []


def test_help_lists_commands_choices_and_values(run_train: Run, tmp_path: Path) -> None:
    text = run_train("--help").out
    for part in ("python -m vaelab.train", "-m", "vaelab.evaluate", "--config-dir", "latent_dim: 20"):
        assert part in text
    for file in Path(CONF).glob("[!hr]*/*.yaml"):
        comments = re.findall("^# (?!@)(.*)", file.read_text(), flags=re.MULTILINE)
        assert re.search(rf"^ *{file.stem} +{re.escape(comments[0])}$", text, flags=re.MULTILINE), file
    assert "hydra.run" not in text  # ours, not Hydra's own
    assert list(tmp_path.iterdir()) == []


# beside the model


@pytest.mark.slow
def test_python_m_finds_the_users_module_in_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from pytorch_lightning import Callback\n\n\nclass Mine(Callback): ...\n")
    command = [sys.executable, "-m", "vaelab.train", *fast("+callbacks.mine._target_=mine.Mine")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "run folder: logs/runs/digits-bernoulli-z2-s0-" in done.stdout


def test_training_that_diverges_says_so_in_one_line(run_fast: Run) -> None:
    line = ("decoder=gaussian", "optimizer.lr=1e30", "trainer.max_epochs=3", "hydra.run.dir=there")
    outcome = run_fast(*line, code=1)
    assert outcome.err.startswith("vaelab: training diverged: at step 2, the output of decoder.network.layers.0 (L")
    assert outcome.err.count("\n") == 1
    assert json.loads((outcome.cwd / "there" / "status.json").read_text())["state"] == "failed"
    assert not (outcome.cwd / "there" / "metrics.json").exists()


@pytest.mark.slow
def test_a_binarisation_that_changes_nothing_is_said(run_fast: Run) -> None:
    assert "data.binarize=threshold has no effect" in run_fast("decoder=gaussian", "data.binarize=threshold").err
    assert "has no effect" not in run_fast("decoder=bernoulli", "data.binarize=threshold").err


@pytest.mark.slow
def test_a_plain_run_imports_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    program = "import sys\nfrom vaelab import train\ntrain.main()\nprint(*sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, *fast()], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = done.stderr.split()
    assert "torch" in loaded
    for module in ("wandb", "vaelab.evaluation.figures", "mlxtend", "plotly", "zuko"):
        assert module not in loaded
