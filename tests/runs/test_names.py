"""The default name of a run's folder, and folders that are found by their hash."""

import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.helpers.commands import Run
from vaelab.runs.command_line import hydra_overrides
from vaelab.runs.configuration import CONF
from vaelab.runs.folder.names import known_by_hash, run_name


def named(*overrides: str) -> str:
    """Return the name of the folder, without its hash."""
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", hydra_overrides("train", overrides), return_hydra_config=True)
    return run_name(cfg).rpartition("-")[0]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("latent_dim=5 seed=2", "mnist5k-bernoulli-z5-s2"),
        ("objective=iwae prior=vamp", "mnist5k-bernoulli-prior_vamp-objective_iwae-z20-s0"),
        ("network=conv encoder=iaf", "mnist5k-bernoulli-network_conv-encoder_iaf-z20-s0"),
        ("network@encoder.network=gated", "mnist5k-bernoulli-encoder.network_gated-z20-s0"),
        ("model=hierarchical optimizer=adagrad", "mnist5k-bernoulli-model_hierarchical-z20-s0"),
        ("data=array data.file=a/faces.npz:x decoder=gaussian", "array-faces-gaussian-z20-s0"),
        ("objective=iwae name=mine", "mine"),
        ("~prior", "mnist5k-bernoulli-z20-s0"),
        ("~data ~decoder", "None-None-z20-s0"),
    ],
)
def test_a_name_tells_what_is_unusual(line: str, name: str) -> None:
    assert named(*line.split()) == name


@pytest.mark.parametrize("name", ["digits-old", "mine"])
def test_a_finished_run_is_found_under_another_prefix(name: str, copied: Path, run_fast: Run) -> None:
    other = copied.with_name(f"{name}-{copied.name.rpartition('-')[2]}")
    shutil.move(copied, other)
    again = run_fast("trainer.max_epochs=2", figures=True)
    assert again.path == other
    assert "finished before" in again.out
    assert again.err.splitlines() == [
        f"vaelab: logs/runs/{other.name} holds this run already: name=NAME makes a folder of its own"
    ]
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_a_folder_that_was_put_aside_is_not_found(tmp_path: Path) -> None:
    (tmp_path / f"a-{'0' * 8}.old1").mkdir()
    assert known_by_hash(tmp_path / "b-00000000", {}) == tmp_path / "b-00000000"
