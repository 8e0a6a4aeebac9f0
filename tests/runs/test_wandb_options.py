"""What W&B's environment and the command line say, and what is sent to W&B of it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import loggers as pl_loggers
from wandb.wandb_agent import Agent

from tests.helpers.commands import ROOT, Outcome, Run, results, run_main, status
from tests.helpers.wandb_files import Read, only, wandb_files
from vaelab import evaluate
from vaelab.errors import ConfigError
from vaelab.evaluation.metrics import validated
from vaelab.heads import Bernoulli, DiagonalGaussian
from vaelab.runs.cli import console
from vaelab.runs.configuration import CONF, plain
from vaelab.runs.folder.identity import identity
from vaelab.runs.folder.names import LONGEST, run_name, shortened, sweep_dir
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.processes.seeds import members_of
from vaelab.runs.tracking import wandb
from vaelab.runs.tracking.wandb_options import check_sweep, name_apart
from vaelab.runs.tracking.wandb_runs import tags_of

Compose = Callable[..., DictConfig]
ENVIRONMENT = {"project": "WANDB_PROJECT", "entity": "WANDB_ENTITY", "name": "WANDB_NAME", "group": "WANDB_RUN_GROUP"}
ENVIRONMENT |= {"job_type": "WANDB_JOB_TYPE", "notes": "WANDB_NOTES", "id": "WANDB_RUN_ID", "dir": "WANDB_DIR"}


def logger_of(cfg: DictConfig) -> dict[str, Any]:
    return plain(cfg)["runtime"]["logger"]


# the environment and the command line


def test_wandbs_environment_wins_over_the_defaults(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ENVIRONMENT.values():
        monkeypatch.setenv(variable, f"of {variable}")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_TAGS", "a, b c,,d")
    logger = logger_of(composed())
    assert {name: logger[name] for name in ENVIRONMENT} == {name: f"of {v}" for name, v in ENVIRONMENT.items()}
    assert (logger["mode"], logger["tags"]) == ("disabled", ["a", "b c", "d"])


def test_what_is_typed_wins_over_wandbs_environment(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*ENVIRONMENT.values(), "WANDB_MODE", "WANDB_TAGS"]:
        monkeypatch.setenv(variable, "environment")
    logger = logger_of(composed(*(f"logger.{name}=typed" for name in ENVIRONMENT), "logger.tags=[t]"))
    assert {logger[name] for name in ENVIRONMENT} == {"typed"}
    assert logger["tags"] == ["t"]


def test_a_trial_of_an_agent_is_online_unless_told_otherwise(
    composed: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert logger_of(composed())["mode"] == "offline"
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    assert logger_of(composed())["mode"] == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert logger_of(composed())["mode"] == "offline"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [*ENVIRONMENT.values(), "WANDB_MODE", "WANDB_TAGS", "WANDB_SWEEP_ID"]:
        monkeypatch.setenv(variable, "")
    with console():
        assert [name for name in os.environ if name.startswith("WANDB_")] == ["WANDB_SILENT"]


def test_a_trial_cannot_leave_the_project_of_its_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    check_sweep({"project": "mine"})
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep123")
    with pytest.raises(ConfigError, match=r"logger\.project must be theirs.*found 'mine': leave logger\.project out"):
        check_sweep({"project": "mine"})


def test_runs_of_several_seeds_do_not_share_wandb_name(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NAME", "mine")
    cfg = composed("seeds=2")
    members = members_of(cfg, tmp_path / f"x-s0-{identity(plain(cfg))}")
    assert [member.cfg.runtime.logger.name for member in members] == [f"mine-{member.path.name}" for member in members]
    assert not any(OmegaConf.is_interpolation(member.cfg.runtime, "choices") for member in members)
    (alone,) = members_of(composed(), tmp_path / "x")
    assert alone.cfg.runtime.logger.name == "mine"
    typed = composed("logger.name=z${latent_dim}")
    name_apart(typed, tmp_path)
    assert typed.runtime.logger.name == "z20"


# names


def test_a_long_name_is_cut_and_keeps_its_hash_or_gets_one() -> None:
    assert shortened("short", 64) == "short"
    assert shortened("a" * 300 + "-0a1b2c3d", 128) == "a" * 119 + "-0a1b2c3d"
    one, other = (shortened("é" * 300 + end, 128) for end in "ab")
    assert one != other
    assert {len(one), len(other), len(one.rpartition("-")[2])} == {128, 8}


def test_folder_names_fit_into_a_file_system(composed: Compose, tmp_path: Path) -> None:
    cfg = OmegaConf.create(plain(composed("name=" + "n" * 250)) | {"hydra": {"runtime": {"choices": {}}}})
    assert isinstance(cfg, DictConfig)
    swept = [f"{'k' * 50}{i}=1,2" for i in range(9)]
    sweeps = (sweep_dir("sweeps", "n" * 300, ["a=1,2"], None, None), sweep_dir("sweeps", "", swept, None, None))
    for name in (run_name(cfg), *(Path(sweep).name for sweep in sweeps)):
        assert len(name) == LONGEST
        (tmp_path / f"{name}.old1").mkdir()
    assert run_name(cfg).endswith(identity(plain(cfg)))


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return what the logger of a run in a folder of a long name gives to Lightning's logger of W&B."""
    told: dict[str, Any] = {}

    class Sent(pl_loggers.WandbLogger):
        experiment = SimpleNamespace(dir=str(tmp_path / "files"), define_metric=lambda *args, **kwargs: None)

        def __init__(self, **kwargs: Any) -> None:
            told.update(kwargs)

    def send(sweep: str | None = None, **options: Any) -> dict[str, Any]:
        monkeypatch.setattr(pl_loggers, "WandbLogger", Sent)
        folder = RunFolder(tmp_path / ("x" * 200 + "-0a1b2c3d"), {})
        folder.status["run_id"] = "a"
        wandb(**options)(folder, sweep)
        return told

    return send


def test_all_that_is_sent_to_wandb_fits(sent: Callable[..., dict[str, Any]]) -> None:
    told = sent("g" * 300, job_type="j" * 300, tags=["t" * 300, "", 5])
    assert {len(told[name]) for name in ("name", "group", "job_type")} == {128}
    assert told["name"].endswith("x-0a1b2c3d")
    assert [len(tag) for tag in told["tags"]] == [64, 1]
    assert len(sent(name="n" * 300)["name"]) == 128
    (tag,) = tags_of({"data": {"_target_": "mine." + "A" * 100}})
    assert len(tag) == 64


def test_what_was_chosen_is_sent_to_wandb(sent: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    told = sent("sweep", name=5, group="mine", project="ours", entity=None, notes="why", dir=tmp_path / "there")
    expected = {"name": "5", "group": "mine", "project": "ours", "notes": "why", "mode": "offline", "id": "a"}
    assert expected.items() <= told.items()
    assert "entity" not in told
    assert told["save_dir"] == tmp_path / "there"
    assert sent("sweep")["group"] == "sweep"


# ids


def test_a_given_id_is_stored_and_kept(tmp_path: Path) -> None:
    for given, expected in (
        (None, None),
        ("agents01", "agents01"),
        (None, "agents01"),
        ("", "agents01"),
        ("agents02", "agents02"),
    ):
        run = RunFolder(tmp_path, {"runtime": {"logger": {"id": given}}})
        with run.running({}):
            assert expected in (None, run.run_id)
        assert status(tmp_path)["run_id"] == run.run_id


# metrics


def test_callbacks_can_monitor_the_metrics_of_a_validation(finished: Outcome) -> None:
    names = {name.removeprefix("val/") for name in results(finished.path) if name.startswith("val/")}
    assert names == set(validated(Bernoulli.__new__(Bernoulli)))
    assert set(validated(DiagonalGaussian.__new__(DiagonalGaussian))) == names | {"bits_per_dim"}


# W&B itself, offline


@pytest.mark.slow
def test_the_environment_reaches_wandb(run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ENVIRONMENT.values():
        monkeypatch.setenv(variable, f"of {variable}")
    monkeypatch.setenv("WANDB_TAGS", "a,b c")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "there"))
    outcome = run_fast("logger=wandb", "logger.notes=typed")
    assert not (outcome.path / "wandb").exists()
    assert outcome.out.endswith("send it to W&B: wandb sync there/wandb/offline-run-*\n")
    run_main(evaluate.main, tmp_path, f"run_dir={outcome.path}", "num_samples=3", "inference_gap=false")
    reads = [Read(file) for file in sorted(tmp_path.glob("there/wandb/offline-run-*/*.wandb"))]
    assert [any("evaluation/test/elbo" in row for row in read.history) for read in reads] == [False, True]
    keys = {"project": "project", "entity": "entity", "display_name": "name", "run_group": "group", "run_id": "id"}
    keys |= {"job_type": "job_type"}
    for read in reads:
        assert {key: read.run[key] for key in keys} == {key: f"of {ENVIRONMENT[name]}" for key, name in keys.items()}
        assert read.run["tags"][-2:] == ["a", "b c"]
    assert reads[0].run["notes"] == "typed"


@pytest.mark.slow
def test_the_jobs_of_a_sweep_have_names_of_their_own(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NAME", "mine")
    long = ("batch_size=100", "seed=0", "data.seed=0", "objective.beta=1.0", "optimizer.lr=0.001", "on_nan=stop")
    run_fast("-m", "logger=wandb", "latent_dim=2,3", *long)
    paths = [file.parent for file in tmp_path.glob("logs/sweeps/*/*/config.yaml")]
    names = {only(path).run["display_name"] for path in paths}
    assert names == {shortened(f"mine-{path.name}", 128) for path in paths}
    assert len(names) == 2
    assert max(map(len, names)) == 128


# an agent of W&B's


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run a trial of the sweep that is shipped, by the code of W&B's own agent, offline."""
    config = yaml.safe_load((Path(CONF) / "wandb_sweep.yaml").read_text())
    agent = Agent.__new__(Agent)
    agent._sweep_command, agent._function, agent._in_jupyter, agent._forward_signals = (
        config["command"],
        None,
        False,
        False,
    )
    agent._run_processes = {}
    parameters = {name: (node.get("values") or [node["min"]])[0] for name, node in config["parameters"].items()}
    quick = {"hidden_features": 8, "trainer.max_steps": 2, "estimator.num_samples": 2}
    arguments = {name: {"value": value} for name, value in (parameters | quick).items()}
    environment = {"WANDB_SWEEP_ID": "sweep123", "WANDB_PROJECT": config["project"], "WANDB_MODE": "offline"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"):  # which the agent sets
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)

    def run(run_id: str) -> None:
        agent._command_run({"type": "run", "run_id": run_id, "program": config["program"], "args": arguments})
        assert agent._run_processes[run_id].wait() == 0

    return run


@pytest.mark.slow
def test_the_shipped_wandb_sweep_works(trial: Callable[[str], None], tmp_path: Path) -> None:
    metric = yaml.safe_load((Path(CONF) / "wandb_sweep.yaml").read_text())["metric"]["name"]
    trial("trial001")
    (path,) = tmp_path.glob("logs/runs/*")
    assert status(path)["run_id"] == "trial001"
    trial("trial002")  # of the same values, and so finished
    assert status(path)["run_id"] == "trial002"
    run_main(evaluate.main, tmp_path, f"run_dir={path}", "estimator=importance", "num_samples=2", "inference_gap=false")
    reads = [Read(file) for file in wandb_files(path)]
    assert [read.run["run_id"] for read in reads] == ["trial001", "trial002", "trial002"]
    for read in reads[:2]:
        assert (read.run["sweep_id"], read.run["project"]) == ("sweep123", "vaelab")
        assert read.last(metric) == results(path)[metric]
        assert read.summary["test/elbo"] == results(path)["test/elbo"]
    assert "evaluation/test/elbo" in reads[2].summary
