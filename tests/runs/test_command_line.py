"""What a user may type: shorter keys, the home folder, texts that look like numbers, and flags anywhere."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.helpers.commands import FAILURE, Run, assert_one_line
from vaelab.errors import ConfigError
from vaelab.runs.command_line import hydra_overrides, hydra_words
from vaelab.runs.configuration import contents


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/j e")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        # without `runtime.`
        ("devices=2", "runtime.devices=2"),
        ("++callbacks.figures.num_images=3", "++runtime.callbacks.figures.num_images=3"),
        ("+callbacks.mine._target_=a.B", "+callbacks.mine._target_=a.B"),
        ("logger=none", "runtime/logger=none"),
        ("~callbacks.figures", "~runtime.callbacks.figures"),
        ("sweep=latent_by_decoder", "sweep=latent_by_decoder"),
        ("sweep.name=x", "runtime.sweep.name=x"),
        ("trainer.max_epochs=2", "trainer.max_epochs=2"),
        ("network@decoder.network=mlp", "network@decoder.network=mlp"),
        # without a plus
        ("trainer.detect_anomaly=true", "++trainer.detect_anomaly=true"),
        ("+trainer.detect_anomaly=true", "+trainer.detect_anomaly=true"),
        # texts that look like numbers
        ("name=0", "runtime.name='0'"),
        ("name=1e5", "runtime.name='1e5'"),
        ("name=007", "runtime.name=007"),
        ("name=true", "runtime.name='true'"),
        ("name=null", "runtime.name=null"),
        ("name=", "runtime.name="),
        ("name='1'", "runtime.name='1'"),
        ("sweep.name=1_0", "runtime.sweep.name='1_0'"),
        ("logger.project=1e5", "runtime.logger.project='1e5'"),
        ("logger.tags=[2024, a,1e5]", "runtime.logger.tags=['2024', a,'1e5']"),
        ("hydra.run.dir=1e5", "hydra.run.dir='1e5'"),
        ("hydra.sweeper.study_name=1e5", "hydra.sweeper.study_name='1e5'"),
        # texts that Hydra's grammar refuses
        ("name=Größe", "runtime.name='Größe'"),
        ("data_dir=/data/a=b;c", "runtime.data_dir='/data/a=b;c'"),
        ("data.file=Vögel été/1;2", "data.file='Vögel été/1;2'"),
        ("data_dir=${oc.env:DATA}", "runtime.data_dir=${oc.env:DATA}"),
        # numbers
        ("latent_dim=1,2", "latent_dim=1,2"),
        ("network.hidden_features=10", "network.hidden_features=10"),  # a reference in its file
        ("decoder.head.num_levels=10", "decoder.head.num_levels=10"),
        ("trainer.precision=32", "trainer.precision=32"),
        ("data.fractions=[1,2]", "data.fractions=[1,2]"),
        ("optimizer.lr=1e-3", "optimizer.lr=1e-3"),
        # the home folder
        ("data_dir=~/d", "runtime.data_dir='/home/j e/d'"),
        ("hydra.run.dir=~", "hydra.run.dir='/home/j e'"),
        ("hydra.run.dir=~/a,~/b", "hydra.run.dir='/home/j e/a','/home/j e/b'"),
        ("data_dir=a~/d", "runtime.data_dir='a~/d'"),
    ],
)
def test_an_override_is_read_as_typed(typed: str, read: str) -> None:
    assert hydra_overrides("train", [typed]) == [read]


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("data.file=/d/a/pets/", "data_dir=/d/a data.file=pets"),
        ("data.file=~/x.npz:a", "data_dir=/home/j e data.file=x.npz:a"),
        ("data.file=/d/a/x.npy data.labels=/d/b/y.npy", "data_dir=/d data.file=a/x.npy data.labels=b/y.npy"),
        ("data.file=/d/a/x.npy data.labels=none", "data_dir=/d/a data.file=x.npy data.labels=none"),
        ("data_dir=/d data.file=/d/x.npy", "data_dir=/d data.file=/d/x.npy"),
        ("data.file=/d/a/x.npy,/d/b/y.npy", "data_dir=/d data.file=a/x.npy,b/y.npy"),
        ("data.file=/usual/a/x.npy data.labels=y.npy", "data.file=a/x.npy data.labels=y.npy"),
        ("data.file=/usual", "data_dir=/ data.file=usual"),
    ],
)
def test_an_absolute_path_of_data_is_split_at_its_folder(
    typed: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", "/usual/")
    assert hydra_overrides("train", typed.split()) == re.split(
        " (?=data)", read.replace("data_dir", "runtime.data_dir")
    )


@pytest.mark.parametrize("typed", ["data.file=/d/x.npy data.labels=y.npy", "data.file=y.npy,/d/x.npy"])
def test_absolute_and_relative_paths_of_data_are_not_mixed(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"^/d/x.npy is an absolute path, and y.npy a relative one: .* data_dir=/d "):
        hydra_overrides("train", typed.split())


@pytest.mark.parametrize(
    ("config", "typed", "read"),
    [
        ("evaluate", "run_dir=1e5", "run_dir='1e5'"),
        ("evaluate", "limit=100", "limit=100"),
        ("evaluate", "trainer.foo=1", "trainer.foo=1"),
        ("reporting/report", "sweep=2024", "sweep='2024'"),
        ("reporting/dashboard", "project=0", "project='0'"),
        ("reporting/compare", "runs=[a/*_2-*,~/b,1]", "runs=[a/*_2-*,'/home/j e/b','1']"),
    ],
)
def test_other_commands_read_texts_as_typed(config: str, typed: str, read: str) -> None:
    assert hydra_overrides(config, [typed]) == [read]


def test_a_list_of_loggers_is_a_node_for_each() -> None:
    further = [f"+runtime/logger@runtime.loggers.{name}={name}" for name in ("csv", "tensorboard")]
    assert hydra_overrides("train", ["logger=[csv, tensorboard,wandb,csv]"]) == ["runtime/logger=wandb", *further]
    assert hydra_overrides("train", ["logger=[]"]) == ["runtime/logger=none"]


def test_overrides_may_stand_on_both_sides_of_a_flag() -> None:
    typed = ["data=digits", "--config-dir", "~/c", "decoder=laplace", "-m", "--config-path=~/d", "seed=1,2"]
    read = ["data=digits", "decoder=laplace", "seed=1,2", "--config-dir", "/home/j e/c", "-m"]
    assert hydra_words("train", typed) == [*read, "--config-path=/home/j e/d"]


@pytest.mark.parametrize(
    ("config", "typed", "read"),
    [
        ("reporting/list", "--json", "json=true"),
        ("train", "--rerun", "runtime.rerun=true"),
        ("train", "--compile", "compile=true"),
    ],
)
def test_a_flag_switches_a_setting_on_that_is_off(config: str, typed: str, read: str) -> None:
    assert hydra_words(config, [typed]) == [read]


@pytest.mark.parametrize("word", ["--seed=1", "--seed", "--json=true", "--prune", "--cuda_graphs"])
def test_hyphens_before_another_setting_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match="must have no hyphens: type"):
        hydra_words("reporting/list" if word.startswith(("--json", "--prune")) else "train", [word])


def test_settings_of_hydra_alone_cannot_be_resolved() -> None:
    words = ["--cfg", "hydra", "--package", "hydra.run", "--resolve"]
    with pytest.raises(ConfigError, match=r"--cfg all --package hydra\.run --resolve"):
        hydra_words("train", words)
    assert hydra_words("train", words[:-1]) == words[:-1]


@pytest.mark.parametrize("words", [["--foo"], ["--config-dir"], ["--cfg", "x"], ["seed=1", "-x", "seed=2"]])
def test_an_unknown_flag_is_refused_without_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="--hydra-help lists the flags"):
        hydra_words("train", words)
    assert capsys.readouterr() == ("", "")


def test_a_tilde_from_the_environment_or_a_file_is_the_home_folder(
    composed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", "~/data")
    cfg = composed("data=array")
    assert contents(cfg)["runtime"]["data_dir"] == "/home/j e/data"
    assert contents(OmegaConf.merge(cfg, {"data": {"file": "~/x.npy"}}))["data"]["file"] == "/home/j e/x.npy"


@pytest.mark.slow
def test_relative_paths_begin_where_the_command_was_typed(run_fast: Run, run_evaluate: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    np.save(tmp_path / "mine" / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 4, 4)))
    line = ("data=array", "data_dir=mine", "data.file=x.npy", "hydra.job.chdir=true")
    outcome = run_fast(*line, "trainer.max_steps=1")
    assert outcome.path.parent == tmp_path / "logs" / "runs"
    assert "hydra.job.chdir=true changes nothing" in outcome.err
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", np.random.default_rng(1).integers(0, 256, (60, 4, 4)))
    absolute = ("data=array", f"data.file={tmp_path}/other/x.npy", "trainer.max_steps=1")
    assert_one_line(run_fast(*absolute, code=FAILURE), "data that differ from data=array now", "name=NAME")
    run_dir = outcome.path.relative_to(tmp_path)
    again = run_evaluate(f"run_dir={run_dir}", "data_dir=mine", "hydra.job.chdir=true", "hydra.run.dir=elsewhere")
    assert f"written: {run_dir}/evaluation.json" in again.out
