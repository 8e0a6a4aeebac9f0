"""Mistyped keys and values: one line that names the key, and the one that was probably meant."""

from pathlib import Path

import pytest

from tests.helpers.commands import FAST, USAGE, Run, assert_one_line, composing, run_main
from vaelab import evaluate
from vaelab.runs.command_line import hydra_words

MISTYPED = [
    ("latent_dims=5", "latent_dims is unknown: did you mean latent_dim?"),
    ("+latent_dims=5", "latent_dims is unknown: did you mean latent_dim?"),
    ("lr=0.1", "did you mean optimizer.lr?"),
    ("max_epochs=3", "did you mean trainer.max_epochs?"),
    ("device=2", "did you mean devices?"),
    ("dta=mnist", "did you mean data?"),
    ("data=mnst", "data=mnst is unknown: did you mean mnist of"),
    ("lr_schedule=cosin", "did you mean cosine of"),
    ("optimizer=sgd", "optimizer=sgd is unknown: choose one of adagrad"),
    ("logger=[csv,foo]", "logger=foo is unknown: choose one of csv, none"),
    ("latent_dim 5", "expected key=value, found latent_dim: type latent_dim=VALUE"),
    ("optimizer.lr=abc", "optimizer.lr must be a number, found 'abc': type optimizer.lr=0.001"),
    ("objective.beta=", "objective.beta must be a number, found ''"),
    ("optimizer.fused=yes", "optimizer.fused must be true or false, found 'yes'"),
    ("decoder.haed.scale=1", "did you mean decoder.head?"),
    ("logger=wandb logger.projct=a", "did you mean logger.project?"),
    ("objective=iwae objective.beta=2", "objective.beta is not in the files that are chosen"),
    ("+objective.betta=4", "did you mean objective.beta?"),
    ("+optimizer.learning_rate=1", "optimizer.learning_rate is unknown: optimizer takes amsgrad, betas"),
    ("+callbacks.pace.foo=1", "callbacks.pace.foo is unknown"),
    ("+runtime.foo=1", "foo is unknown: runtime takes accelerator"),
    ("+runtime.sweep.nam=1", "did you mean sweep.name?"),
    ("trainer.max_epoch=2", "did you mean trainer.max_epochs?"),
    ("+weight_prior.scale=2", "weight_prior.scale needs a choice: also type weight_prior= (normal)"),
    ("+callbacks.mine._target=a.B", "callbacks.mine._target needs a class: also type +callbacks.mine._target_="),
    ("estimator=all +estimator.ais.foo=1", "estimator.ais.foo is unknown"),
    (
        "decoder=gaussian decoder.head._target_=vaelab.heads.Bernoulli",
        "vaelab.heads.Bernoulli has no argument for decoder.head.scale, decoder.head.sigmoid_mean: leave out what you "
        "typed of these, or remove what a former class had by ~decoder.head.scale ~decoder.head.sigmoid_mean (it ",
    ),
]


@pytest.mark.parametrize(("line", "said"), MISTYPED)
def test_a_mistyped_line_names_what_was_meant(line: str, said: str, run_train: Run) -> None:
    assert_one_line(run_train("data=digits", *line.split(), code=USAGE), said)


def test_a_job_of_a_sweep_is_checked_as_well(run_train: Run) -> None:
    assert_one_line(run_train("-m", *FAST, "seed=1,2", "+foo=1", code=USAGE), "foo is unknown")


def test_a_typo_in_a_file_is_refused(run_train: Run, tmp_path: Path) -> None:
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nlatent_dims: 5\n")
    outcome = run_train("--config-dir=conf", "experiment=mine", code=USAGE)
    assert_one_line(outcome, "latent_dims is unknown: did you mean latent_dim?")


def test_a_group_of_the_users_own_holds_shared_values(run_train: Run, tmp_path: Path) -> None:
    (tmp_path / "conf" / "sizes").mkdir(parents=True)
    (tmp_path / "conf" / "sizes" / "small.yaml").write_text("hidden: 20\n")
    line = ("--config-dir=conf", "+sizes=small", "hidden_features=${sizes.hidden}", "latent_dim=0")
    assert_one_line(run_train("data=digits", *line, code=USAGE), "latent_dim must be a whole number")


def test_other_commands_refuse_unknown_keys(tmp_path: Path) -> None:
    assert_one_line(run_main(evaluate.main, tmp_path, "rundir=x", code=USAGE), "did you mean run_dir?")
    assert_one_line(run_main(evaluate.main, tmp_path, "run_dir=x", "+foo=1", code=USAGE), "foo is unknown")


@pytest.mark.parametrize(
    "line",
    [
        "+width=7 hidden_features=${width}",  # a key of the user's own
        "+logger.settings=null logger=wandb",  # **options
        "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/elbo,mode:max}",
        "optimizer=adamw +optimizer.betas=[0.9,0.99]",
        "trainer.detect_anomaly=true",
        "logger=[csv,tensorboard]",
        "model=hierarchical network@model.network=gated",
    ],
)
def test_what_is_read_is_not_refused(line: str, run_train: Run) -> None:
    outcome = run_train("data=digits", *line.split(), "latent_dim=0", code=USAGE)
    assert_one_line(outcome, "latent_dim must be a whole number")  # refused after the keys


def test_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        hydra_words("train", ["seed=1", "--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("vaelab ")


def test_shipped_keys_are_known() -> None:
    assert composing("callbacks=early_stopping").callbacks.keys() == {"checkpoints", "stop"}
