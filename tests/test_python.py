"""`import vaelab`: what a notebook does is what a command line does, in the same folders and to the same bits."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from rich.progress import Progress

import vaelab
from tests.helpers.commands import Outcome, assert_same_weights, curve_rows, fast, results, status, weights
from tests.helpers.sweep_folders import finished_job
from vaelab import errors
from vaelab.errors import ConfigError, DataError, RunFolderError, SweepError
from vaelab.objectives import ELBO
from vaelab.runs.calling import GOES_ON, OURS, raising, without_main
from vaelab.runs.configuration import CONF
from vaelab.runs.opened import Run
from vaelab.security.allow_list import own_packages
from vaelab.signals import Interrupted
from vaelab.training import VAEModule
from vaelab.training.in_notebook import NotebookBar

TWO_EPOCHS = fast("trainer.max_epochs=2", figures=True)  # the line of `finished`
HEAVY = {"torch", "pytorch_lightning", "hydra", "omegaconf", "numpy", "matplotlib", "wandb"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def opened(finished: Outcome) -> Run:
    """The finished run, opened once."""
    return vaelab.load(finished.path)


# import


def test_the_import_imports_nothing_slow() -> None:
    code = f"import sys, vaelab; print(vaelab.__version__, dir(vaelab), {HEAVY} & sys.modules.keys())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert out.stderr == ""
    assert out.stdout.startswith("0.1.0 ['Compared', 'Curve', 'Run', 'Runs', '__version__', 'compare_runs', ")
    assert out.stdout.endswith(" set()\n")


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    assert [name for name in vaelab.__all__ if not getattr(vaelab, name).__doc__] == []
    with pytest.raises(AttributeError, match="no attribute 'foo'; it has Compared"):
        _ = vaelab.foo


# load


def test_a_loaded_run_has_what_its_folder_holds(opened: Run, finished: Outcome) -> None:
    assert opened.metrics.items() >= results(finished.path).items()
    assert (opened.config["latent_dim"], opened.state, opened.evaluations) == (2, "done", {})
    assert {"reconstructions", "latent", "manifold"} <= opened.figures.keys()
    told = [row for row in curve_rows(finished.path) if row["val/elbo"]]
    samples_seen, values = opened.history["val/elbo"]
    assert samples_seen.tolist() == [float(row["samples_seen"]) for row in told]
    assert values.tolist() == [float(row["val/elbo"]) for row in told]


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_loaded_model_has_the_weights_asked_for_and_is_ready(finished: Outcome, name: str) -> None:
    state = torch.get_rng_state()
    run = vaelab.load(finished.path, weights=name)  # type: ignore[arg-type]
    assert all(
        torch.equal(value, weights(finished.path, name)[f"vae.{key}"]) for key, value in run.vae.state_dict().items()
    )
    assert torch.equal(state, torch.get_rng_state())
    assert not run.vae.training
    x = run.data.draw("test", range(5))
    assert set(x.unique().tolist()) == {0, 1}
    assert run.vae.reconstruct(x).numpy().shape == (5, 1, 8, 8)
    assert ELBO()(run.vae, x, torch.tensor(0)).metrics["elbo"].shape == (5,)


def test_a_loaded_run_shows_its_table(opened: Run) -> None:
    assert repr(opened).endswith(
        f"/{opened.path.name}', 'last'): done, ELBO {opened.metrics['test/elbo']:.2f} nats on the test split"
    )
    assert "│ KL " in str(opened)
    assert "log p(x), importance" in str(opened)
    assert opened._repr_html_().startswith("<pre>Run(&#x27;")


def test_a_run_that_has_just_begun_can_be_loaded(copied: Path) -> None:
    (copied / "metrics.json").unlink()
    (copied / "curves.csv").unlink()
    run = vaelab.load(copied)
    assert (run.metrics, run.history, str(run)) == ({}, {}, repr(run))


def test_a_damaged_list_of_estimators_does_not_break_the_table(copied: Path) -> None:
    record = json.loads((copied / "record.json").read_text())
    for damaged in ([{"a": 1}], 3, "ais"):
        (copied / "record.json").write_text(json.dumps(record | {"refused_estimators": damaged}))
        assert "log p(x), importance" in str(vaelab.load(copied))


def test_evaluations_are_read_by_name(copied: Path) -> None:
    (copied / "evaluations" / "test-last-ais-00000000.json").write_text(json.dumps({"test/elbo": -1.5}))
    assert vaelab.load(copied).evaluations == {"test-last-ais-00000000": {"test/elbo": -1.5}}


def test_an_evaluation_returns_its_metrics_and_is_kept(copied: Path) -> None:
    run = vaelab.load(copied)
    found = run.evaluate("estimator=importance estimator.num_samples=4 limit=20 inference_gap=false")
    (kept,) = (each for each in run.evaluations.values() if each["comparability"]["examples"] == 20)
    assert found["log_likelihood"] == kept["test/log_likelihood"]
    assert found["elbo"] == pytest.approx(found.examples["elbo"].mean().item())
    assert found.examples.keys() >= {"log_likelihood", "log_prior"}
    assert "blocks" not in found.examples
    part = found.file.rename(found.file.with_name(f"{found.file.stem}.part-0-of-1.safetensors"))
    again = run.evaluate("estimator=importance estimator.num_samples=4 limit=20 inference_gap=false")
    assert again == found
    assert torch.equal(again.examples["elbo"], found.examples["elbo"])
    assert not part.exists()
    with pytest.raises(ConfigError, match="limit must be a whole number"):
        run.evaluate("limit=0")
    with pytest.raises(ConfigError, match="limt is unknown: did you mean limit"):
        run.evaluate("limt=5")
    with pytest.raises(ConfigError, match="checkpoint=best would evaluate something else"):
        run.evaluate("checkpoint=best")
    with pytest.raises(ConfigError, match=r"runtime\.data_dir=x would evaluate something else"):
        run.evaluate("++runtime.data_dir=x")


@pytest.mark.parametrize("name", ["a,b", "it's", "[x]", "(p)", "a'b\"c", "a b=c"])
def test_a_folder_with_any_name_is_evaluated(name: str, copied: Path) -> None:
    run = vaelab.load(copied.rename(copied.with_name(name)))
    found = run.evaluate("estimator=importance estimator.num_samples=1 limit=2 inference_gap=false")
    assert found["num_examples"] == 2


def test_what_is_no_run_folder_is_refused(tmp_path: Path, finished: Outcome) -> None:
    with pytest.raises(RunFolderError, match="is not a run folder"):
        vaelab.load(tmp_path)
    with pytest.raises(ConfigError, match="weights must be last or best, found 'first'"):
        vaelab.load(finished.path, weights="first")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="trust=torch would allow any code"):
        vaelab.load(finished.path, trust="torch")


def test_a_strangers_class_is_made_only_if_it_is_trusted(copied: Path) -> None:
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["prior"]["_target_"] = "tests.test_python.Standard"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunFolderError, match=r"prior\._target_ .* type trust=\[tests\]"):
        _ = vaelab.load(copied).vae
    assert isinstance(vaelab.load(copied, trust=["tests"]).vae.prior, Standard)


class Standard(vaelab.priors.StandardNormal):
    """Somebody's own prior."""


def test_other_data_than_those_of_the_training_are_refused(copied: Path) -> None:
    record = json.loads((copied / "record.json").read_text())
    record["data"]["seed"] = 5
    (copied / "record.json").write_text(json.dumps(record))
    with pytest.raises(RunFolderError, match="was trained on data that differ") as raised:
        _ = vaelab.load(copied).data
    assert raised.value.__suppress_context__


def test_absent_data_are_told_in_one_line(copied: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["data"]["_target_"] = "vaelab.data.MNIST"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(DataError, match=f"train-images-idx3-ubyte.gz is not in {tmp_path}/none/mnist") as raised:
        _ = vaelab.load(copied, data_dir=tmp_path / "none").vae
    assert "\n" not in str(raised.value)


def test_the_data_are_found_from_another_working_folder(
    copied: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["data"]["_target_"] = "vaelab.data.MNIST"
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    run = vaelab.load(copied, data_dir="none")
    monkeypatch.chdir("/")
    with pytest.raises(DataError, match=f"is not in {here}/none/mnist"):
        _ = run.data


# fit


def test_fit_finds_the_run_of_the_command_line(copied: Path, here: Path) -> None:
    run = vaelab.fit(TWO_EPOCHS)
    assert run.path == copied
    typed = " ".join(override for override in TWO_EPOCHS if not override.startswith(("latent_dim=", "data=")))
    assert vaelab.fit(typed, latent_dim=2, data="digits").path == copied


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    finished: Outcome, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, epochs = VAEModule.on_train_epoch_start, []

    def interrupted(module: VAEModule) -> None:
        epochs.append(1)
        if len(epochs) == 2:
            signal.raise_signal(signal.SIGINT)
        begin(module)

    monkeypatch.setattr(VAEModule, "on_train_epoch_start", interrupted)
    with pytest.raises(KeyboardInterrupt, match=GOES_ON):
        vaelab.fit(TWO_EPOCHS)
    path = here / finished.path.relative_to(finished.cwd)
    assert status(path)["state"] == "interrupted"
    run = vaelab.fit(TWO_EPOCHS)
    assert run.path == path
    assert_same_weights(path, finished.path)
    assert results(path) == results(finished.path)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("latent_dim=abc", r"latent_dim must be a whole number of at least 1, found 'abc'"),
        ("decoder=foo", "decoder=foo is unknown: choose one of bernoulli, beta"),
        ("callbacks=null", "Config group override must be a string or a list"),
        ("seeds=2", "vaelab.fit makes one run, found seeds=2: call vaelab.run_sweep with seed=range"),
        ("sweep=likelihoods", "likelihoods is a sweep, and vaelab.fit makes one run"),
        ("-m latent_dim=2", "expected overrides, found the flag -m"),
        ("data=array", "data.file must be a path below data_dir"),
    ],
)
def test_wrong_overrides_raise_one_line_and_leave_nothing(overrides: str, words: str, here: Path) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        vaelab.fit(overrides)
    assert "\n" not in str(raised.value)
    assert "run_once" not in {entry.name for entry in raised.traceback}
    assert list(here.rglob("*.*")) == []


def test_several_devices_are_refused_where_lightning_refuses_them(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(ConfigError, match="devices=2 is not possible in an interactive session"):
        vaelab.fit("devices=2")


@pytest.mark.parametrize("devices", [1, 2])
def test_the_processes_of_a_fit_do_not_run_the_script_again(
    devices: int, copied: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mains: list[object] = []
    monkeypatch.setattr("vaelab.api.complete_runs", lambda *_: mains.append(sys.modules["__main__"]))
    main = sys.modules["__main__"]
    vaelab.fit(TWO_EPOCHS, devices=devices)
    assert (mains[0] is main) == (devices == 1)  # one process may use classes of the script
    assert sys.modules["__main__"] is main
    if devices == 2:
        with pytest.raises(ConfigError, match="do not import your script: keep classes of your own in a module"):
            vaelab.fit([*TWO_EPOCHS, "devices=2", "prior._target_=__main__.Prior"])


def test_fit_reads_files_of_a_folder_of_ones_own(here: Path) -> None:
    (here / "my_conf" / "experiment").mkdir(parents=True)
    (here / "my_conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nlatent_dim: -3\n")
    with pytest.raises(ConfigError, match=r"latent_dim must be .* found -3"):
        vaelab.fit("experiment=mine", config_dir="my_conf")
    with pytest.raises(ConfigError, match="config_dir=foo is not a folder"):
        vaelab.fit(config_dir="foo")


def test_fit_changes_nothing_of_the_rest_of_the_process(here: Path) -> None:
    def everything() -> list[object]:
        loggers = [logging.getLogger(name) for name in (None, "vaelab", "py.warnings", "pytorch_lightning")]
        state = [(logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
        globally = [warnings.showwarning, sys.stdout, sys.path[:], dict(os.environ), signal.getsignal(signal.SIGINT)]
        drawn = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]  # noqa: NPY002
        settings = [torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark]
        return [state, *globally, warnings.filters[:], *drawn, *settings, GlobalHydra.instance().hydra]

    logging.getLogger("py.warnings").handlers.clear()
    with initialize_config_dir(CONF, version_base="1.3"):
        before = everything()
        vaelab.fit(fast("+trainer.deterministic=true"))
        assert everything() == before
        assert compose("train", ["latent_dim=3"]).latent_dim == 3


def test_the_users_own_classes_are_trusted_in_a_run_of_his_own() -> None:
    targets = ["mine.heads.Laplace", "vaelab.priors.StandardNormal", "torch.optim.Adam", "__main__.Head"]
    config = {"a": {"_target_": targets[0], "b": [{"_target_": target} for target in targets[1:]]}}
    assert own_packages(config) == ("__main__", "mine")


def test_a_signal_to_end_ends_the_process_after_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(signal, "raise_signal", sent.append)
    with pytest.raises(Interrupted), raising():
        raise Interrupted(signal.SIGTERM)
    assert sent == [signal.SIGTERM]


def test_a_bug_in_training_is_no_wrong_override(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def training(*_: Any) -> None:
        raise ValueError("of a bug")

    monkeypatch.setattr("vaelab.api.complete_runs", training)
    with pytest.raises(ValueError, match="of a bug") as raised:
        vaelab.fit(TWO_EPOCHS)
    assert (raised.type, raised.traceback[-1].name) == (ValueError, "training")


def test_every_error_of_vaelab_is_raised_as_one_line() -> None:
    assert {*OURS} == {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)}


def test_errors_that_are_no_users_keep_their_traceback() -> None:
    def broken() -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError) as raised, raising():
        broken()
    assert raised.traceback[-1].name == "broken"


# sweeps and comparisons


def test_the_processes_of_a_sweep_do_not_run_the_script_again() -> None:
    before = get_preparation_data("child")
    with without_main():
        assert not any(key.startswith("init_main") for key in get_preparation_data("child"))
    assert get_preparation_data("child") == before


@pytest.mark.slow
def test_a_sweep_returns_its_runs_and_they_are_compared(here: Path) -> None:
    line = fast("latent_dim=2,3", "seed=range(2)")
    runs = vaelab.run_sweep(line)
    assert [(run.config["latent_dim"], run.config["seed"]) for run in runs] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert repr(runs).startswith(f"4 runs in {runs.folder.relative_to(here)}:\n  Run('logs/sweeps/")
    assert runs[0].vae.latent_dim == 2
    assert [run.path for run in vaelab.run_sweep(line)] == [run.path for run in runs]
    (own, bound) = vaelab.compare_runs(runs).differences
    assert (own["metric"], bound["metric"], own["seeds"]) == ("log_likelihood", "elbo", (2, 2))
    assert len(vaelab.compare_runs(runs[:3:2]).differences) == 2
    with pytest.raises(ConfigError, match="compares the last weights"):
        vaelab.compare_runs(runs.with_weights("best"))
    some, quick = runs[1:3], "num_samples=1 limit=5 inference_gap=false"
    for run, found in zip(some, some.evaluate(quick), strict=True):
        assert found == run.evaluate(quick)
        assert len(found.examples["elbo"]) == 5
    assert not list((runs[0].path / "evaluations").glob("*.json"))


@pytest.mark.slow
def test_a_sweep_may_return_runs_that_failed(here: Path) -> None:
    line = fast("optimizer.lr=1e-3,1e30")
    with pytest.raises(SweepError, match="1 of 2 jobs are not done"):
        vaelab.run_sweep(line)
    runs = vaelab.run_sweep(line, allow_failed=True)
    assert [run.state for run in runs] == ["done", "failed"]
    with pytest.raises(RunFolderError, match="is no finished run in"):
        runs.evaluate("limit=5")


def test_runs_are_compared_in_pairs(tmp_path: Path, here: Path) -> None:
    for size, value in ((2, -30.0), (5, -28.0)):
        finished_job(tmp_path / "sweep", f"latent_dim={size}", value=value)
    runs = [vaelab.load(path.parent) for path in sorted(tmp_path.glob("sweep/*/config.yaml"))]
    found = vaelab.compare_runs(runs)
    assert [(each["setting"], each["against"]) for each in found.differences] == [("latent_dim=5", "latent_dim=2")] * 2
    assert found.differences[0]["difference"] == pytest.approx(2, abs=0.1)
    assert repr(found) == found._repr_markdown_() == found.as_markdown()
    with pytest.raises(ConfigError, match="two or more settings or runs"):
        vaelab.compare_runs(runs[:1])
    with pytest.raises(ConfigError, match=r"compares the last weights, found Run\(.*'best'\).*: give its folder"):
        vaelab.compare_runs([runs[0], vaelab.load(runs[1].path, weights="best")])
    with pytest.raises(ConfigError, match=r"some runs have their last weights and some their best: call runs\.with_w"):
        vaelab.api.Runs([runs[0], vaelab.load(runs[1].path, weights="best")], tmp_path).evaluate()


# a notebook


def test_a_notebook_shows_progress_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    in_place = SimpleNamespace(display=lambda data, raw: None, update=lambda data, raw: shown.append(data))
    monkeypatch.setattr("IPython.display.DisplayHandle", lambda: in_place)
    progress = Progress(disable=True)
    progress.add_task("training", total=15, completed=3, note="val elbo < 1")
    bar = NotebookBar()
    bar.show(progress.tasks[0])
    bar.show(progress.tasks[0])  # too early
    progress.update(progress.tasks[0].id, completed=15)
    bar.show(progress.tasks[0], last=True)
    assert [each["text/plain"].split("  ")[:2] for each in shown] == [["training", "3/15"], ["training", "15/15"]]
    assert shown[0]["text/html"].startswith('<progress value="3" max="15"></progress> <code>training')
    assert "val elbo &lt; 1" in shown[0]["text/html"]
