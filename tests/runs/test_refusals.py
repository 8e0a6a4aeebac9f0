"""Bad input: one clear line on stderr, a non-zero exit code, and nothing left behind."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, files_in, run_main, status
from vaelab import compare, dashboard, evaluate, explore, export, report
from vaelab.estimators import ImportanceSampling
from vaelab.runs import cli

STOP, KEEP = (
    f"+callbacks.{name}._target_=pytorch_lightning.callbacks.{kind}"
    for name, kind in (("stop", "EarlyStopping"), ("keep", "ModelCheckpoint"))
)
# what is typed, the exit code, and words that the line must hold; one or two of each kind
TRAIN = [
    # what Hydra refuses
    ("data=cifar", USAGE, "cifar", "mnist5k"),  # and the choices that there are
    ("objective.betta=3", USAGE, "betta"),
    ("latent_dim", USAGE, "latent_dim"),
    ("latent_dim=2,3", USAGE, "latent_dim"),  # a sweep without -m
    ("callbacks=null", USAGE, "override"),
    ("--config-dir=nowhere", USAGE, "nowhere"),
    ("data._target_=nowhere.Data", USAGE, "nowhere"),
    # numbers and choices
    ("latent_dim=0", USAGE, "latent_dim", "at least 1", "found 0"),
    (f"seed={2**64}", USAGE, "seed must be at most 2^64 - 1", str(2**64)),
    (f"data.seed={2**64}", USAGE, "data.seed must be at most 2^64 - 1"),
    (f"seed={2**64 - 1} seeds=2", USAGE, "seed must be at most 2^64 - 1"),
    ("latent_dim=null", USAGE, "latent_dim", "None"),
    ("trainer.max_epochs=null", USAGE, "trainer.max_epochs", "None"),
    ("trainer.max_steps=0", USAGE, "trainer.max_steps", "found 0"),
    ("trainer.val_check_interval=0.5", USAGE, "trainer.val_check_interval", "whole number", "found 0.5"),
    ("on_nan=maybe", USAGE, "on_nan", "skip", "'maybe'"),
    ("devices=auto", USAGE, "devices", "at least 1", "'auto'"),
    ("seeds=2 stacked=true compile=true", USAGE, "stacked=false", "compile=false"),
    ("seeds=2 stacked=true on_nan=skip", USAGE, "stacked=false", "on_nan=stop"),
    ("seeds=2 stacked=true devices=2", USAGE, "stacked=false", "devices=1"),
    ("data=array data.file=???", USAGE, "data.file is missing", "type data.file="),
    ("~data", USAGE, "data must be chosen, found null: type data="),
    ("~decoder", USAGE, "decoder must be chosen, found null: type decoder="),
    ("~prior", USAGE, "prior must be chosen, found null: type prior="),
    # arguments of the trainer
    ("+trainer.foo=1", USAGE, "foo", "trainer"),
    ("+trainer.gradient_clip_val=1", USAGE, "trainer.gradient_clip_val", "gradient_clip=norm"),
    ("+trainer.enable_progress_bar=true", USAGE, "trainer.enable_progress_bar", "vaelab sets"),
    ("+trainer.devices=2", USAGE, "trainer.devices", "type devices=2"),
    ("trainer.devices=2", USAGE, "trainer.devices", "type devices=2"),
    ("trainer.strategy=ddp", USAGE, "trainer.strategy", "devices=2"),
    ("trainer.max_epoch=2", USAGE, "max_epoch", "trainer"),
    ("--foo", USAGE, "--foo", "--hydra-help"),
    ("+callbacks.checkpoints.every_n_steps=2", USAGE, "checkpoint_every_n_steps"),
    ("accelerator=foo", USAGE, "foo"),
    ("devices=[0]", USAGE, "devices", "CPUAccelerator"),
    # what a class of the model or of the training refuses
    ("hidden_features=[8,0]", USAGE, "hidden_features"),
    ("network.activation=foo", USAGE, "activation", "tanh", "'foo'"),
    ("objective.beta=-1", USAGE, "objective.beta", "0 or more"),
    ("estimator.num_samples=0", USAGE, "estimator.num_samples", "at least 1"),
    (
        "encoder.head._target_=vaelab.heads.StudentT",
        USAGE,
        "samples of q(z|x) that carry a gradient",
        "encoder=gaussian",
    ),
    ("+decoder.head.foo=1", USAGE, "foo"),
    ("decoder=gaussian decoder.head.scale.min_scale=-1", USAGE, "min_scale", "-1"),
    ("optimizer.lr=-1", USAGE, "learning rate", "-1"),
    ("+optimizer.foo=1", USAGE, "optimizer", "foo"),
    ("weight_prior=normal weight_prior.scale=0", USAGE, "weight_prior.scale", "positive"),
    ("initialization=normal initialization.std=-1", USAGE, "std", "-1"),
    ("gradient_clip=norm +gradient_clip.foo=1", USAGE, "foo", "gradient_clip"),
    ("gradient_clip=norm gradient_clip.max_norm=-1", USAGE, "gradient_clip", "limits must be positive"),
    ("lr_schedule=cosine lr_schedule.interval=batch", USAGE, "lr_schedule.interval", "validation", "'batch'"),
    ("lr_schedule=plateau lr_schedule.interval=epoch", USAGE, "metrics", "lr_schedule"),
    ("+callbacks.one.scheduling={0:1}", USAGE, "vaelab: the keys of callbacks.one.scheduling must be texts, found 0"),
    ("+callbacks.collapse.foo=1", USAGE, "foo", "callbacks.collapse"),
    ("lr_schedule=plateau +lr_schedule.monitor=val/foo", USAGE, "monitor", "lr_schedule"),
    (
        "lr_schedule=plateau lr_schedule.scheduler.mode=min",
        USAGE,
        "lr_schedule.scheduler.mode must be max",
        "found min",
    ),
    # metrics that callbacks wait for
    (f"{STOP} +callbacks.stop.monitor=val/foo", USAGE, "callbacks.stop.monitor", "val/kl, found val/foo", "=val/elbo"),
    (f"{STOP} +callbacks.stop.monitor=val/bits_per_dim", USAGE, "val/kl, found val/bits_per_dim"),  # pixels are binary
    (f"{STOP} +callbacks.stop.monitor=val/elbo", USAGE, "callbacks.stop.mode must be max", "higher", "stop.mode=max"),
    (f"{KEEP} +callbacks.keep.monitor=train/loss", USAGE, "callbacks.keep.monitor", "val/kl, found train/loss"),
    ("callbacks.checkpoints.monitor=elbo", USAGE, "callbacks.checkpoints.monitor", "val/elbo", "found elbo"),
    # loggers
    ("logger=wandb logger.project=my/project", USAGE, "logger.project", "'my/project'", "logger.project=my-project"),
    ("logger=wandb logger.tags=vae", USAGE, "logger.tags must be a list", "'vae'", "logger.tags=[vae]"),
    ("logger=wandb logger.mode=onlin", USAGE, "logger.mode must be offline, online or disabled", "'onlin'"),
    ("logger=wandb logger.name=[a]", USAGE, "logger.name must be a text", "['a']"),
    ("logger=wandb logger.id=a/b", USAGE, "logger.id", "'a/b'", "logger.id=null"),
    ("logger=wandb logger.dir=a_file", USAGE, "logger.dir must be a folder", "a_file", "logger.dir=null"),
    ("logger=wandb +logger.foo=1", USAGE, "logger.foo", "wandb.init"),
    ("keep=last", USAGE, "keep must be all or best", "keep=all"),
    ("logger=none +logger.foo=1", USAGE, "logger.foo is unknown"),
    ("logger=wandb logger.id=mine seeds=2", USAGE, "logger.id=mine", "WANDB_RUN_ID", "leave out -m and seeds="),
    ("-m logger=wandb logger.id=mine seed=1,2", USAGE, "logger.id=mine", "WANDB_RUN_ID", "leave out -m and seeds="),
    ("--optimizer.lr=0.1", USAGE, "type optimizer.lr=0.1", "${args_no_hyphens}"),
    ("--devices=2", USAGE, "type devices=2"),
    # data, and pixels that the model does not take
    ("data.binarize=foo", USAGE, "data.binarize", "dynamic", "'foo'"),
    ("data.pixels=unit", USAGE, "Bernoulli", "binary", "data.pixels=unit", "data.pixels=null"),
    ("data=mnist data_dir=empty", FAILURE, "train-images-idx3-ubyte.gz", "empty/mnist", "data=mnist5k"),
    ("data=mnist data_dir=damaged", FAILURE, "train-images-idx3-ubyte.gz", "damaged", "delete it"),
    ("data=array data_dir=damaged", USAGE, "data.file", "found None", "data.file=mine.npy"),
    ("data=array data_dir=damaged data.file=page.npy", FAILURE, "page.npy is not a whole .npy file", "numpy.save"),
    # sweeps
    ("sweep.name=mine", USAGE, "sweep.name=mine", "single run", "type -m"),
    ("-m trainer.max_epochs=1,2", USAGE, "vaelab: a sweep cannot vary trainer.max_epochs"),
    ("-m latent_dim=2,0", USAGE, "latent_dim must be a whole number of at least 1, found 0"),
    ("-m seed=1,2 hydra.launcher.n_jobs=0", USAGE, "hydra.launcher.n_jobs must be"),
    ("-m seed=1,2 +hydra.launcher.foo=3", USAGE, "hydra.launcher got an unexpected keyword argument 'foo'", "n_jobs"),
    ("-m seed=1,2 hydra.launcher.jobs=tests.absent.Jobs", USAGE, "needs the package tests.absent"),
    ("-m seed=1,2 hydra.sweeper.max_batch_size=0", USAGE, "hydra.sweeper.max_batch_size must be", "found 0"),
    ("-m seed=1,2 optimizer.lr=interval(0,1)", USAGE, "is not a list of values: type hydra/sweeper=optuna"),
    ("-m seed=1,2 hydra/launcher=submitit_local +hydra.launcher.foo=3", USAGE, "submitit refuses", "foo"),
    ("-m latent_dim=2 hydra/sweeper=optuna", USAGE, "nothing to search", "latent_dim=choice("),
    # seeds
    ("seeds=0", USAGE, "seeds", "at least 1"),
    ("seeds=2 stacked=true hidden_features=0", USAGE, "vaelab: hidden_features"),  # as of a single run
    ("seeds=2 data=mnist data_dir=empty", FAILURE, "vaelab: train-images-idx3-ubyte.gz is not in empty/mnist"),
    ("seeds=2 hydra.run.dir=there", USAGE, "name="),
    # the run folder
    ("hydra.run.dir=a_file", FAILURE, "a_file"),
]


@pytest.mark.parametrize(("line", "code", "words"), [(line, code, words) for line, code, *words in TRAIN])
def test_a_bad_command_line_is_refused_in_one_line(
    line: str, code: int, words: list[str], run_fast: Run, tmp_path: Path
) -> None:
    (tmp_path / "damaged" / "mnist").mkdir(parents=True)
    for name in ("a_file", "damaged/page.npy", "damaged/mnist/train-images-idx3-ubyte.gz"):
        (tmp_path / name).write_text("<html>404</html>")
    before = left_behind(tmp_path)
    assert_one_line(run_fast(*line.split(), code=code), *words)
    assert left_behind(tmp_path) == before


def left_behind(folder: Path) -> list[Path]:
    """Return files, and folders of runs; an empty logs/runs does not count."""
    return sorted(path for path in folder.rglob("*") if path.is_file() or path.parent.name in ("runs", "sweeps"))


@pytest.mark.parametrize(
    ("gpus", "line", "words"),
    [(0, "accelerator=gpu", ("gpu", "trainer")), (2, "devices=4 optimizer=adagrad", ("gpu: [0, 1, 2, 3]", "[0, 1]"))],
)
def test_a_gpu_that_is_not_there_is_refused(
    gpus: int, line: str, words: tuple[str, ...], run_fast: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    # by Adagrad, because a step of Adam would look for the driver of the GPUs, which only the count claims
    assert_one_line(run_fast(*line.split(), code=USAGE), *words)


def test_compiling_without_a_compiler_is_one_line(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", (None, "nonexistent"))
    assert_one_line(run_fast("compile=true", code=USAGE), "compile=true needs a C++ compiler")


@pytest.mark.parametrize(
    ("main", "key"),
    [
        *((main, "run_dir") for main in (evaluate.main, explore.main, export.main)),
        *((main, "sweep") for main in (report.main, dashboard.main)),
        (compare.main, "runs"),
    ],
)
def test_an_entry_point_names_missing_keys_and_refuses_sweeps(main: Any, key: str, tmp_path: Path) -> None:
    assert_one_line(run_main(main, tmp_path, code=USAGE), f"{key} is missing: type {key}=")
    for flag in ("-m", "hydra.mode=MULTIRUN"):
        assert_one_line(run_main(main, tmp_path, flag, f"{key}=a,b", code=USAGE), "-m works only with vaelab.train")
    assert left_behind(tmp_path) == []


def test_a_bug_is_shown_with_one_traceback_and_logged(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("my own bug")

    monkeypatch.setattr(ImportanceSampling, "__call__", broken)
    outcome = run_fast(code=1)
    assert outcome.err.count("Traceback") == 1
    assert outcome.err.count("ZeroDivisionError: my own bug") == 1
    (path,) = tmp_path.glob("logs/runs/*")
    assert "ZeroDivisionError: my own bug" in (path / "train.log").read_text()
    assert (status(path)["state"], status(path)["error"]) == ("failed", "ZeroDivisionError: my own bug")


def test_who_asks_for_it_gets_the_traceback_of_a_refusal(run_fast: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "WANTS_TRACEBACK", True)  # HYDRA_FULL_ERROR=1
    for line in ("hidden_features=0", "data=cifar"):
        assert "Traceback" in run_fast(line, code=1).err


# a folder that is not what it should be


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", b"a: [1", ("config.yaml", "YAML")),
        ("config.yaml", b"\xff\xfe\x00", ("config.yaml", "YAML")),
        ("config.yaml", b"just words", ("config.yaml", "format_version")),
        ("config.yaml", b"format_version: 99", ("config.yaml", "format_version 99", "rerun=true")),
        ("status.json", b"[1]", ("status.json", "damaged", "rerun=true")),
        ("metrics.json", b"{", ("metrics.json", "damaged", "rerun=true")),
    ],
)
def test_a_damaged_run_folder_file_is_named_and_kept(
    name: str, content: bytes, words: tuple[str, ...], copied: Path, run_fast: Run
) -> None:
    (copied / name).write_bytes(content)
    before = files_in(copied)
    assert_one_line(run_fast("trainer.max_epochs=2", code=FAILURE, figures=True), *words)
    assert files_in(copied) == before


def test_damaged_checkpoints_do_not_start_training_over(copied: Path, run_fast: Run) -> None:
    for name in ("last", "previous"):
        (copied / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK broken")
    assert_one_line(run_fast("trainer.max_epochs=3", code=FAILURE, figures=True), "last.ckpt", "rerun=true")


EVALUATE = [
    ("run_dir=nowhere", FAILURE, "nowhere", "config.yaml", "run_dir=logs/runs/NAME"),
    ("run_dir=a_file", FAILURE, "a_file"),
    ("run_dir=here checkpoint=foo", USAGE, "last or best", "'foo'"),
    ("run_dir=here num_samples=0", USAGE, "num_samples", "at least 1"),
    ("run_dir=here accelerator=foo", USAGE, "foo"),
    ("run_dir=here colour=red", USAGE, "colour"),
    ("run_dir=no_checkpoint checkpoint=best", FAILURE, "best.ckpt", "does not exist"),
    ("run_dir=truncated_checkpoint", FAILURE, "last.ckpt", "cannot be loaded"),
    ("run_dir=other_model", FAILURE, "last.ckpt", "cannot be loaded"),
    ("run_dir=other_format", FAILURE, "format_version 99"),
    ("run_dir=needs_mnist data_dir=empty", FAILURE, "train-images-idx3-ubyte.gz", "empty/mnist"),
    ("run_dir=here measure=mass", USAGE, "binary"),
    ("run_dir=here dequantizations=3", USAGE, "found estimator=importance and binary pixels: type dequantizations=1"),
    ("run_dir=here dequantizations=3 estimator=ais", USAGE, "dequantizations above 1 need importance sampling"),
    ("run_dir=here inference_gap=2", USAGE, "inference_gap must be true or false, found 2"),
    ("run_dir=here limit=0", USAGE, "limit must be a whole number of at least 1"),
    ("run_dir=here split=train", USAGE, "test or val"),
    ("run_dir=here devices=0", USAGE, "devices must be a whole number of at least 1"),
    ("run_dir=here estimator=guess", USAGE, "guess"),
    ("run_dir=here +estimator.num_chains=3", USAGE, "also type estimator= (ais, all, hmc, importance, refined)"),
    ("run_dir=here estimator.num_chains=3 estimator=hmc", USAGE, "must be even"),
    ("run_dir=here estimator=ais num_samples=10", USAGE, "num_samples needs importance sampling"),
]


@pytest.fixture(scope="module")
def folders(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders that the command lines above speak of."""
    root = tmp_path_factory.mktemp("folders")
    for name in ("here", "no_checkpoint", "truncated_checkpoint", "other_model", "other_format", "needs_mnist"):
        shutil.copytree(finished.path, root / name)
    shutil.rmtree(root / "no_checkpoint" / "checkpoints")
    last = root / "truncated_checkpoint" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-500])
    edit(root / "other_model" / "config.yaml", "latent_dim: 2", "latent_dim: 3")
    edit(root / "other_format" / "config.yaml", "format_version: 2", "format_version: 99")
    edit(root / "needs_mnist" / "config.yaml", "vaelab.data.Digits", "vaelab.data.MNIST")
    (root / "a_file").write_text("not a folder")
    return root


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert content.count(old) == 1
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize(("line", "code", "words"), [(line, code, words) for line, code, *words in EVALUATE])
def test_a_bad_evaluation_is_refused_in_one_line(line: str, code: int, words: list[str], folders: Path) -> None:
    before = sorted(folders.rglob("*"))
    assert_one_line(run_main(evaluate.main, folders, *line.split(), code=code), *words)
    assert sorted(folders.rglob("*")) == before


def test_a_refused_evaluation_leaves_an_empty_working_folder_alone(run_evaluate: Run, tmp_path: Path) -> None:
    run_evaluate("run_dir=nowhere", code=FAILURE)
    assert tmp_path.exists()
