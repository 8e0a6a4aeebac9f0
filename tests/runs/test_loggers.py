"""Curves: what W&B and TensorBoard hold after a run, read back from their files."""

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.commands import ROOT, Outcome, Run, fast, results, run_main, status
from tests.helpers.faults import FAULT
from tests.helpers.training import script_validations
from tests.helpers.wandb_files import Read, only, wandb_files
from vaelab import train
from vaelab.runs.folder.contents import read_config
from vaelab.runs.tracking.wandb_runs import sync_line
from vaelab.training import VAEModule

TRAIN = {"train/loss", "train/elbo", "train/reconstruction", "train/kl"}
VAL = {"val/elbo", "val/reconstruction", "val/kl"}
TEST = {"test/elbo", "test/reconstruction", "test/kl", "test/log_likelihood"}
FIGURES = {"reconstructions", "predictive_check", "samples", "latent", "manifold", "kl_per_dimension"}
EPOCH = 1438


# several


@pytest.mark.slow
def test_several_loggers_each_get_the_run(run_fast: Run) -> None:
    path = run_fast("logger=[csv,tensorboard,wandb]").path
    read = only(path)
    events = EventAccumulator(str(path / "tensorboard")).Reload()
    assert "val/elbo" in events.Tags()["scalars"]
    assert read.last("val/elbo")
    assert (path / "curves.csv").exists()
    assert read.exit_code == 0


# W&B


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of two epochs with W&B, offline."""
    return run_main(
        train.main, tmp_path_factory.mktemp("wandb"), *fast("trainer.max_epochs=2", "logger=wandb", figures=True)
    )


@pytest.fixture(scope="module")
def logged(outcome: Outcome) -> tuple[Path, Read]:
    """Its folder and what W&B has of it."""
    return outcome.path, only(outcome.path)


@pytest.mark.slow
def test_wandb_is_the_default_and_silent(outcome: Outcome, composed: Any) -> None:
    logger = composed()["runtime"]["logger"]
    assert (logger["_target_"], logger["mode"]) == ("vaelab.runs.tracking.wandb", "offline")
    assert [file.name for file in outcome.cwd.iterdir()] == ["logs"]
    assert outcome.err == ""
    *others, last = outcome.out.rstrip().splitlines()
    run = outcome.path.relative_to(outcome.cwd)
    assert last == f"send it to W&B: wandb sync {run}/wandb/offline-run-*"
    assert "wandb" not in "".join(others).lower()


@pytest.mark.slow
def test_wandb_has_the_runs_name_id_and_configuration(logged: tuple[Path, Read]) -> None:
    path, read = logged
    assert read.config == read_config(path)
    assert (read.run["display_name"], read.run["run_id"]) == (path.name, status(path)["run_id"])
    assert (read.run["project"], read.exit_code, read.run.get("run_group")) == ("vaelab", 0, None)
    assert [metric for metric in read.metrics if metric.get("glob_name") == "*"][-1]["step_metric"] == "samples_seen"


@pytest.mark.slow
def test_wandb_has_the_curves_over_samples_seen(logged: tuple[Path, Read]) -> None:
    path, read = logged
    assert all("samples_seen" in row for row in read.history)
    assert read.at(EPOCH) >= TRAIN | VAL
    assert read.at(2 * EPOCH) >= TRAIN | VAL | TEST
    for name in VAL | TEST:
        assert read.last(name) == results(path)[name]


def test_wandb_shows_the_figures_as_images(logged: tuple[Path, Read]) -> None:
    path, read = logged
    names = {name.removeprefix("figures/").split(".")[0] for row in read.history for name in row if "figures/" in name}
    assert names == FIGURES
    media = list(path.glob("wandb/offline-run-*/files/media/images/figures/*.png"))
    assert len(media) == len(FIGURES)
    assert {file.read_bytes() for file in media} == {file.read_bytes() for file in path.glob("figures/*.png")}


def test_wandbs_summary_is_what_metrics_json_holds(logged: tuple[Path, Read]) -> None:
    path, read = logged
    metrics = results(path)
    assert metrics.keys() >= {"test/elbo", "best/test/elbo", "steps", "epochs", "samples_seen"}
    assert read.summary["val/elbo"]["last"] == metrics.pop("val/elbo")
    assert metrics.items() <= read.summary.items()


@pytest.mark.slow
def test_wandb_keeps_the_best_of_the_validations(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    script_validations(monkeypatch)
    path = run_fast("trainer.max_epochs=5", "logger=wandb").path
    read = only(path)
    bounds = [row["val/elbo"] for row in read.history if "val/elbo" in row]
    assert max(bounds) > bounds[-1]
    assert read.summary["val/elbo"] == {"max": max(bounds), "last": results(path)["val/elbo"]}
    assert results(path)["best/steps"] < results(path)["steps"]
    for name in ("test/elbo", "val/elbo", "test/log_likelihood"):
        assert read.last(f"best/{name}") == results(path)[f"best/{name}"]
        assert read.last(name) == results(path)[name]
    (defined,) = [metric for metric in read.metrics if metric.get("name") == "val/elbo"]
    assert defined["step_metric"] == "samples_seen"
    assert defined["summary"] == {"max": True, "last": True}


@pytest.mark.slow
def test_wandb_keeps_masses_and_densities_apart(run_fast: Run) -> None:
    for decoder, protocol in (("bernoulli", "digits-binary-dynamic"), ("gaussian", "digits-unit")):
        path = run_fast("logger=wandb", f"decoder={decoder}", "data.seed=3").path
        (name,) = [name for name in only(path).summary if name.startswith("within/")]
        assert re.fullmatch(rf"within/{protocol}-importance-K2-[0-9a-f]{{8}}/log_likelihood", name)
        assert only(path).summary[name] == results(path)["test/log_likelihood"]
    bits = [row["val/bits_per_dim"] for row in only(path).history if "val/bits_per_dim" in row]
    assert only(path).summary["val/bits_per_dim"] == {"min": min(bits), "last": bits[-1]}  # of which binary has none


@pytest.mark.slow
def test_each_job_of_a_sweep_has_its_own_wandb_run(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    outcome = run_fast("-m", FAULT, "+callbacks.fault.act=none,raise", "logger=wandb", code=1)
    (sweep,) = tmp_path.glob("logs/sweeps/*")
    found = [only(path) for path in sweep.iterdir() if path.is_dir()]
    reads = {read.config["callbacks"]["fault"]["act"]: read for read in found}
    assert {act: read.exit_code for act, read in reads.items()} == {"raise": 1, "none": 0}
    assert {read.run["run_group"] for read in reads.values()} == {sweep.name}
    assert {read.run["job_type"] for read in reads.values()} == {"train"}
    assert reads["raise"].run["run_id"] != reads["none"].run["run_id"]
    assert not reads["raise"].at(EPOCH) & TEST
    assert reads["none"].at(EPOCH) >= TRAIN | VAL | TEST  # and none of them twice from the other job
    seen = [row["samples_seen"] for row in reads["none"].history if "train/loss" in row]
    assert len(seen) == len(set(seen)) == 15  # one for each step, because the fault acts within steps
    assert f"send it to W&B: wandb sync logs/sweeps/{sweep.name}/*/wandb/offline-run-*" in outcome.out


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_wandb_under_its_id(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ("trainer.max_epochs=3", "logger=wandb")
    script_validations(monkeypatch, lambda steps: -float(steps))  # the best is told of before the interruption
    publish = VAEModule.on_validation_epoch_end

    def signalled(self: VAEModule) -> None:
        publish(self)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(VAEModule, "on_validation_epoch_end", signalled)
        run_fast(*line, code=143)
    path = run_fast(*line).path
    first, second = map(Read, wandb_files(path))
    assert (first.exit_code, second.exit_code) == (143, 0)
    assert first.run["run_id"] == second.run["run_id"]
    places = [[row["samples_seen"] for row in read.history if "train/loss" in row] for read in (first, second)]
    assert places == [[EPOCH], [2 * EPOCH, 3 * EPOCH]]
    whole = [row["val/elbo"] for read in (first, second) for row in read.history if "val/elbo" in row]
    assert second.summary["val/elbo"]["max"] == max(whole) == -15
    assert "val/elbo" in first.summary


@pytest.mark.slow
def test_wandb_can_be_disabled(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    outcome = run_fast("logger=wandb")
    assert not (outcome.path / "wandb").exists()
    assert "wandb sync" not in outcome.out


@pytest.mark.slow
def test_tags_are_the_models_parts_and_the_users_own(run_fast: Run) -> None:
    line = ("logger=wandb", "logger.project=mine", "logger.entity=us", "+logger.notes=why")
    read = only(run_fast(*line, "decoder=gaussian", "logger.tags=[first,ELBO]").path)
    assert (read.run["project"], read.run["entity"], read.run["notes"]) == ("mine", "us", "why")
    assert read.run["tags"] == ["Digits", "DiagonalGaussian", "PerPixelScale", "StandardNormal", "ELBO", "first"]
    assert read.run["job_type"] == "train"


def test_sync_line_is_one_command_or_none_if_all_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = tmp_path / "my sweep"
    runs = [folder / "wandb" / "offline-run-1" for folder in (sweep / "a", sweep)]
    assert sync_line(tmp_path) is None
    for run in runs:
        run.mkdir(parents=True)
    assert sync_line(sweep / "a") == "wandb sync 'my sweep/a'/wandb/offline-run-*"
    assert sync_line(sweep) == "wandb sync 'my sweep'/*/wandb/offline-run-* 'my sweep'/wandb/offline-run-*"
    for run in runs:
        (run / "run-1.wandb.synced").touch()
    assert sync_line(sweep) is None
    (tmp_path / "else where" / "wandb" / "offline-run-2").mkdir(parents=True)
    configs = [{"runtime": {"logger": {"dir": place}}} for place in (None, str(tmp_path / "else where"))]
    assert sync_line(sweep, configs) == "wandb sync 'else where'/wandb/offline-run-*"


# TensorBoard


@pytest.mark.slow
def test_tensorboard_has_the_curves_of_all_attempts_and_the_figures(run_fast: Run) -> None:
    run_fast("trainer.max_epochs=1", "logger=tensorboard", figures=True)
    path = run_fast("trainer.max_epochs=2", "logger=tensorboard", figures=True).path
    read = EventAccumulator(str(path / "tensorboard"), {"scalars": 0, "images": 0})
    read.Reload()
    assert set(read.Tags()["scalars"]) >= TRAIN | VAL | TEST
    assert [event.step for event in read.Scalars("train/loss")] == [EPOCH, 2 * EPOCH]
    assert read.Scalars("test/elbo")[-1].value == pytest.approx(results(path)["test/elbo"], rel=1e-6)
    assert {name.removeprefix("figures/") for name in read.Tags()["images"]} == FIGURES
    assert {read.Images(name)[-1].step for name in read.Tags()["images"]} == {2 * EPOCH}


# none


@pytest.mark.slow
def test_no_logger_leaves_no_files_and_the_same_numbers(run_fast: Run) -> None:
    none = run_fast("logger=none", "name=none").path
    assert not {file.name for file in none.iterdir()} & {"wandb", "tensorboard", "lightning_logs"}
    assert results(none) == results(run_fast("logger=wandb", "name=wandb").path)
