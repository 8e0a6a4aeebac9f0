"""Every shipped configuration is composed, instantiated and run."""

import re
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from hydra_plugins.vaelab import call
from tests.helpers.commands import composing as composed
from vaelab.data import MNIST
from vaelab.runs.build import build, make_callbacks
from vaelab.runs.configuration import CONF, plain
from vaelab.security.allow_list import check_trusted
from vaelab.sweeps.launchers.base import JobsLauncher
from vaelab.training import Checkpoints

GROUPS = {path.name: sorted(f.stem for f in path.glob("*.yaml")) for path in Path(CONF).iterdir() if path.is_dir()}
CONTRACTS = ("data", "network", "encoder", "decoder", "prior", "objective", "estimator")  # see tests/contracts
TRAINING = ("model", "optimizer", "initialization", "weight_prior", "lr_schedule", "gradient_clip")
SMALL = ["data=digits", "hidden_features=8", "latent_dim=2", "estimator.num_samples=2"]


def test_no_group_is_left_out():
    others = {"callbacks", "experiment", "sweep", "runtime", "hydra", "reporting", "reproduction"}
    assert GROUPS.keys() == others | {*CONTRACTS, *TRAINING}
    assert {path.name for path in (Path(CONF) / "hydra").iterdir()} == {"help", "launcher", "sweeper"}


@pytest.mark.parametrize("name", sorted(f.stem for f in Path(CONF).glob("hydra/launcher/*.yaml")))
def test_each_launcher_is_one_and_takes_its_options(name):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", [f"hydra/launcher={name}"], return_hydra_config=True)
    options = {key: value for key, value in cfg.hydra.launcher.items() if key not in ("_target_", "jobs")}
    assert isinstance(call("hydra.launcher", cfg.hydra.launcher.jobs, options), JobsLauncher)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS["sweep"])
def test_each_sweep_is_a_multirun_of_values_that_compose(name):
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", [f"sweep={name}"], return_hydra_config=True)
        assert cfg.hydra.mode is RunMode.MULTIRUN
        for key, values in (cfg.hydra.sweeper.params or {}).items():
            first = re.search(r"[\w.]+(?=[,)])|\d\S*(?=,)", values)
            assert first, values
            compose("train", [f"{key}={first[0]}"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group in (*CONTRACTS, "model") for name in GROUPS[group]]
)
def test_a_strangers_folder_may_ask_for_each_choice(group, name):
    check_trusted({group: plain(composed(f"{group}={name}"))[group]}, (), Path("config.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), [(group, name) for group in TRAINING for name in GROUPS[group]])
def test_each_choice_of_training_changes_the_weights(group, name, finished):
    more = [f"initialization.run_dir={finished.path}"] if name == "from_run" else []
    data, module = build(composed(*SMALL, f"{group}={name}", *more))
    terms = module.objective(module.vae, data.draw("train", torch.arange(4)), torch.tensor(0))
    (terms.loss.mean() + (module.weight_prior(module.vae) if module.weight_prior else 0)).backward()
    if module.gradient_clip:
        module.gradient_clip(module.vae.parameters())
    made = module.configure_optimizers()
    optimizer = made[0][0] if module.lr_schedule else made
    before = [p.detach().clone() for p in module.vae.parameters()]
    optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, module.vae.parameters(), strict=True))


def test_each_callback_is_made():
    callbacks = make_callbacks(composed("checkpoint_every_n_steps=7"), bar=True)
    assert len(callbacks) == 5
    assert all(isinstance(callback, pl.Callback) for callback in callbacks)
    assert [callback.every_n_steps for callback in callbacks if isinstance(callback, Checkpoints)] == [7]
    names = [type(callback).__name__ for callback in make_callbacks(composed(), bar=False)]
    assert names == ["Checkpoints", "Figures", "CollapseWarning", "ProgressBar"]  # only the first of several is paced


@pytest.fixture
def few_digits(monkeypatch):
    """Keep 300 images of each split of MNIST, because to evaluate 20,000 takes long."""
    read, few = MNIST.splits, np.arange(300)
    monkeypatch.setattr(MNIST, "splits", lambda self: {name: split.take(few) for name, split in read(self).items()})


@pytest.mark.slow
@pytest.mark.usefixtures("data_dir", "few_digits")
@pytest.mark.parametrize("name", GROUPS["experiment"])
def test_each_experiment_runs_and_says_command_result_and_cost(name, run_train):
    quick = ("trainer.max_steps=3", "trainer.max_epochs=1", "estimator.num_samples=1", "logger=none")
    run_train(f"experiment={name}", *quick, "~callbacks.figures")
    header = (Path(CONF) / "experiment" / f"{name}.yaml").read_text()
    for part in ("command +python -m vaelab.train", r"result +\S", r"cost +\S"):
        assert re.search(f"^#   {part}", header, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "hidden", "data"), [("aevb_mnist", 500, "MNIST"), ("aevb_frey_face", 200, "FreyFace")]
)
def test_paper_experiments_hold_the_settings_of_section_5(name, hidden, data):
    cfg = plain(composed(f"experiment={name}"))
    assert cfg["data"]["_target_"].endswith(data)
    assert cfg["hidden_features"] == cfg["network"]["hidden_features"] == hidden
    assert cfg["network"]["activation"] == "tanh"
    assert "network" not in cfg["encoder"] | cfg["decoder"]
    assert (cfg["batch_size"], cfg["objective"]["num_samples"]) == (100, 1)
    assert cfg["optimizer"]["_target_"] == "torch.optim.Adagrad"
    assert cfg["optimizer"]["lr"] in (0.01, 0.02, 0.1)
    assert (cfg["initialization"]["std"], cfg["weight_prior"]["scale"]) == (0.01, 1)
    assert cfg["decoder"]["head"].get("sigmoid_mean", data == "MNIST")


@pytest.mark.parametrize("name", ["iwae_mnist", "iwae_mnist_two_layers"])
def test_the_authors_protocol_differs_in_data_optimizer_and_initial_weights(name):
    paper, authors = (plain(composed(f"experiment={name}{suffix}")) for suffix in ("", "_authors"))
    assert {key for key in authors if authors[key] != paper.get(key)} == {"data", "optimizer", "initialization"}
    assert authors["data"] == paper["data"] | {"shuffle": False, "num_val": 400}
    for group, choice in (("optimizer", "adam_from"), ("initialization", "glorot")):
        assert authors[group] == OmegaConf.to_object(OmegaConf.load(Path(CONF, group, f"{choice}.yaml")))


def test_no_size_is_written_twice():
    cfg = plain(composed("latent_dim=7", "hidden_features=11"))
    assert str(cfg).count("11") == 2  # at the root, and where the networks take it from
    assert str(cfg).count(": 7") == 1
