"""Bad input: one clear line on stderr, a non-zero exit code, and nothing left behind."""

import gzip
import hashlib
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.commands import FAILURE, USAGE, Outcome, Run, assert_one_line, run_main
from vaelab import dashboard, evaluate, export, report
from vaelab.data.datasets import mnist
from vaelab.estimators import ImportanceSampling
from vaelab.runs import cli

pytestmark = pytest.mark.usefixtures("as_users_have_it")


def left_behind(folder: Path) -> list[Path]:
    """Files, and folders of runs; an empty logs/runs does not count."""
    found = sorted(folder.rglob("*"))
    return [path for path in found if path.is_file() or path.parent.name in ("runs", "sweeps")]


# what is typed, the exit code, and words that the line must hold
TRAIN = [
    ("data=cifar", USAGE, "cifar", "mnist5k"),  # and the choices that there are
    ("colour=red", USAGE, "colour"),
    ("objective.betta=3", USAGE, "betta"),
    ("+trainer.foo=1", USAGE, "foo", "trainer"),
    ("latent_dim", USAGE, "latent_dim"),
    ("latent_dim=", USAGE, "latent_dim"),
    ("latent_dim=0", USAGE, "latent_dim", "at least 1", "found 0"),
    ("latent_dim=abc", USAGE, "latent_dim", "'abc'"),
    ("latent_dim=null", USAGE, "latent_dim", "None"),
    ("latent_dim=2,3", USAGE, "latent_dim"),  # a sweep without -m
    ("batch_size=0", USAGE, "batch_size", "at least 1"),
    ("steps_per_call=0", USAGE, "steps_per_call", "at least 1"),
    ("seed=-1", USAGE, "seed", "at least 0"),
    ("data.seed=-1", USAGE, "data.seed", "at least 0"),
    ("data.seed=null", USAGE, "data.seed", "None"),
    ("trainer.max_epochs=0", USAGE, "trainer.max_epochs", "at least 1"),
    ("trainer.max_steps=0", USAGE, "trainer.max_steps"),
    ("hidden_features=0", USAGE, "hidden_features", "found 0"),
    ("hidden_features=[8,0]", USAGE, "hidden_features"),
    ("hidden_features=0 model=shared", USAGE, "hidden_features", "found 0"),
    (
        "network@encoder.network=mlp encoder.network.hidden_features=9 model=shared",
        USAGE,
        "model=shared",
        "(9,) (encoder)",
    ),
    ("trainer.val_check_interval=0", USAGE, "trainer.val_check_interval", "at least 1", "found 0"),
    ("trainer.val_check_interval=0.5", USAGE, "trainer.val_check_interval", "whole number", "found 0.5"),
    ("+trainer.check_val_every_n_epoch=null", USAGE, "trainer.check_val_every_n_epoch", "None"),
    ("+trainer.gradient_clip_val=1", USAGE, "trainer.gradient_clip_val", "gradient_clip=norm"),
    ("+trainer.gradient_clip_algorithm=value", USAGE, "trainer.gradient_clip_algorithm", "gradient_clip=value"),
    ("+trainer.accumulate_grad_batches=2", USAGE, "trainer.accumulate_grad_batches", "batch_size"),
    ("checkpoint_every_n_steps=0", USAGE, "checkpoint_every_n_steps", "at least 1", "found 0"),
    ("gradient_clip=foo", USAGE, "gradient_clip", "foo", "norm"),
    ("gradient_clip=norm +gradient_clip.foo=1", USAGE, "foo", "gradient_clip"),
    ("gradient_clip=norm gradient_clip.max_norm=-1", USAGE, "gradient_clip", "limits must be positive"),
    ("gradient_clip=value gradient_clip.clip_value=-1", USAGE, "gradient_clip", "limits must be positive"),
    ("lr_schedule=cosine lr_schedule.interval=batch", USAGE, "lr_schedule.interval", "validation", "'batch'"),
    ("lr_schedule=plateau lr_schedule.interval=epoch", USAGE, "metrics", "lr_schedule"),
    ("lr_schedule=plateau lr_schedule.scheduler.factor=2", USAGE, "lr_schedule", "1.0"),
    ("lr_schedule=warmup lr_schedule.scheduler.start_factor=2", USAGE, "lr_schedule", "less or equal to 1"),
    ("lr_schedule=cosine trainer.max_epochs=null trainer.max_steps=9", USAGE, "lr_schedule", "NoneType"),
    ("+trainer.num_nodes=2", USAGE, "trainer.num_nodes", "one machine", "devices=2"),
    ("+trainer.strategy=ddp", USAGE, "trainer.strategy", "devices=2"),
    ("+trainer.limit_train_batches=2", USAGE, "trainer.limit_train_batches", "trainer.max_steps"),
    ("+trainer.limit_val_batches=0", USAGE, "trainer.limit_val_batches", "whole splits"),
    ("+trainer.fast_dev_run=true", USAGE, "trainer.fast_dev_run", "trainer.max_steps=1"),
    ("trainer.devices=2", USAGE, "trainer.devices", "type devices=2"),
    ("trainer=ddp", USAGE, "trainer=ddp", "type devices=2"),
    ("+trainer.enable_progress_bar=true", USAGE, "trainer.enable_progress_bar", "the same for every run"),
    ("+callbacks.checkpoints.every_n_steps=2", USAGE, "checkpoint_every_n_steps"),
    ("trainer.precision=16-mixed", USAGE, "trainer.precision", "bf16-mixed"),
    ("trainer.max_epochs=null", USAGE, "trainer.max_epochs", "None"),
    ("decoder=null", USAGE, "override"),
    ("callbacks=null", USAGE, "override"),
    ("network.activation=foo", USAGE, "activation", "tanh", "'foo'"),
    ("objective.num_samples=0", USAGE, "objective.num_samples", "at least 1"),
    ("objective.beta=-1", USAGE, "objective.beta", "0 or more"),
    ("objective.beta=abc", USAGE, "objective"),
    ("estimator.num_samples=0", USAGE, "estimator.num_samples", "at least 1"),
    ("estimator.max_batch_elements=0", USAGE, "estimator.max_batch_elements", "at least 1"),
    ("optimizer.lr=-1", USAGE, "learning rate", "-1"),
    ("optimizer.lr=abc", USAGE, "optimizer"),
    ("+optimizer.foo=1", USAGE, "optimizer", "foo"),
    ("weight_prior=normal weight_prior.scale=0", USAGE, "weight_prior.scale", "positive"),
    ("data.binarize=foo", USAGE, "data.binarize", "dynamic", "'foo'"),
    ("data.pixels=foo", USAGE, "data.pixels=foo", "binary"),
    ("data.pixels=unit", USAGE, "Bernoulli", "binary", "data.pixels=unit", "data.pixels=null"),
    ("data.pixels=levels decoder=gaussian", USAGE, "DiagonalGaussian", "unit", "data.pixels=levels"),
    ("data=frey_face data.order=foo", USAGE, "data.order", "'foo'"),
    ("decoder=gaussian decoder.head.scale.min_scale=-1", USAGE, "min_scale", "-1"),
    ("decoder=gaussian_fixed decoder.head.scale.value=0", USAGE, "scale must be positive", "0"),
    ("decoder=gaussian_shared +decoder.head.scale.initial=0", USAGE, "scale must be positive", "0"),
    ("decoder=gaussian_optimal +decoder.head.scale.momentum=1", USAGE, "momentum", "1"),
    ("+decoder.head.foo=1", USAGE, "foo"),
    ("decoder.head._target_=vaelab.heads.base.Nothing", USAGE, "vaelab.heads.base.Nothing"),
    ("data._target_=nowhere.Data", USAGE, "nowhere"),
    ("initialization=normal initialization.std=-1", USAGE, "std", "-1"),
    ("+callbacks.collapse.foo=1", USAGE, "foo", "callbacks.collapse"),
    ("accelerator=foo", USAGE, "foo"),
    ("on_nan=maybe", USAGE, "on_nan", "skip", "'maybe'"),
    ("seeds=2 stacked=true on_nan=skip", USAGE, "stacked=false", "on_nan=stop"),
    ("+decoder.event_shape=[1,2]", USAGE, "event_shape"),
    ("devices=0", USAGE, "devices", "at least 1", "found 0"),
    ("devices=auto", USAGE, "devices", "at least 1", "found auto"),
    ("devices=[0,0]", USAGE, "devices=[0, 0]", "twice"),
    ("seeds=2 stacked=true devices=2", USAGE, "stacked=false", "devices=1"),
    ("sweep.name=mine", USAGE, "sweep.name=mine", "single run", "type -m"),
    ("-m seed=1,2 seed.foo=1", USAGE, "seed"),
    ("-m seed=1,2 +hydra.launcher.foo=3", USAGE, "hydra.launcher has no foo", "n_jobs"),
    ("-m seed=1,2 hydra/launcher=ray ~hydra.launcher.init", USAGE, "init", "hydra.launcher"),
    ("-m seed=1,2 hydra.sweeper.max_batch_size=0", USAGE, "hydra.sweeper.max_batch_size", "at least 1", "found 0"),
    ("-m seed=1,2 data=array data.file=???", USAGE, "data.file is missing", "type data.file="),
    ("-m seed=1,2 hydra/launcher=submitit_local +hydra.launcher.foo=3", USAGE, "submitit refuses", "foo"),
    ("data=array data.file=???", USAGE, "data.file is missing", "type data.file="),
    ("-m latent_dim=2 hydra/sweeper=optuna", USAGE, "nothing to search", "latent_dim=choice("),
    ("--config-dir=nowhere", USAGE, "nowhere"),
    ("data=mnist data_dir=empty", FAILURE, "train-images-idx3-ubyte.gz", "empty/mnist", "data=mnist5k"),
    ("data=frey_face data_dir=empty", FAILURE, "frey_rawface.mat", "empty/frey_face", "data=mnist5k"),
    ("data=mnist data_dir=damaged", FAILURE, "train-images-idx3-ubyte.gz", "damaged", "delete it"),
    ("data=mnist data_dir=truncated", FAILURE, "train-labels-idx1-ubyte.gz", "damaged", "delete it"),
    ("data=frey_face data_dir=damaged", FAILURE, "frey_rawface.mat", "delete it"),
    ("data=frey_face data_dir=odd", FAILURE, "odd/frey_face/frey_rawface.mat", "not a regular file"),
    ("data=array data_dir=own", USAGE, "data.file", "found None", "data.file=mine.npy"),
    ("data=array data_dir=own data.file=/dev/zero", USAGE, "data.file", "below data_dir", "type data_dir=FOLDER"),
    ("data=array data_dir=own data.file=../a_file", USAGE, "data.file", "below data_dir", "data.file=a_file"),
    ("data=array data_dir=own data.file=none.npy", FAILURE, "own/none.npy does not exist", "VAELAB_DATA_DIR"),
    (
        "data=array data_dir=own data.file=folder",
        FAILURE,
        "own/folder is not a regular file",
        "put the .npy file there",
    ),
    ("data=array data_dir=own data.file=page.npy", FAILURE, "own/page.npy is not a whole .npy file", "numpy.save"),
    ("data=array data_dir=own data.file=short.npy", FAILURE, "own/short.npy is not a whole .npy file", "numpy.save"),
    ("data=array data_dir=own data.file=objects.npy", FAILURE, "own/objects.npy", "never unpickled", "numpy.save"),
    ("data=array data_dir=own data.file=words.npy", FAILURE, "own/words.npy", "<U1", "expected booleans or integers"),
    ("data=array data_dir=own data.file=flat.npy", FAILURE, "own/flat.npy", "(20, 2)", "[N, H, W] or [N, C, H, W]"),
    ("data=array data_dir=own data.file=nan.npy", FAILURE, "own/nan.npy holds nan", "not a number"),
    ("data=array data_dir=own data.file=negative.npy", FAILURE, "negative.npy holds -1", "scale the array"),
    ("data=array data_dir=own data.file=large.npy", FAILURE, "large.npy holds 300", "whole numbers 0 .. 255"),
    ("data=array data_dir=own data.file=unit.npy", FAILURE, "unit.npy holds 0.5", "multiply by 255 and round"),
    ("data=array data_dir=own data.file=mine.npy data.num_levels=2", FAILURE, "data.num_levels=2", "num_levels=256"),
    ("data=array data_dir=own data.file=mine.npy data.num_levels=300", USAGE, "from 2 to 256", "found 300"),
    ("data=array data_dir=own data.file=empty.npy", FAILURE, "empty.npy", "(0, 2, 1)", "at least one"),
    ("data=array data_dir=own data.file=two.npy", FAILURE, "the val split would be empty"),
    ("data=array data_dir=own data.file=mine.npy data.fractions=[0.9,0.2,0.1]", USAGE, "add up to 1", "[0.8,0.1,0.1]"),
    ("data=array data_dir=own data.file=mine.npy data.fractions=[1.2,-0.1,-0.1]", USAGE, "above 0", "[0.8,0.1,0.1]"),
    ("data=array data_dir=own data.file=mine.npy data.fractions=0.8", USAGE, "three numbers", "found 0.8"),
    ("data=array data_dir=own data.file=mine.npy data.labels=two_labels.npy", FAILURE, "2 labels for 20 pictures"),
    ("data=array data_dir=own data.file=mine.npy data.labels=/two_labels.npy", USAGE, "data.labels", "below data_dir"),
    ("data=array data_dir=own data.file=mine.npy data.labels=mine.npy", FAILURE, "(20, 2, 1)", "expected integers [N]"),
    ("data=array data_dir=own data.file=mine.npy data.labels=rare.npy", FAILURE, "the val split would be empty"),
    ("data=array data_dir=own data.file=mine.npy +data.size=3", USAGE, "size", "in the configuration at data"),
    ("hydra.run.dir=a_file", FAILURE, "a_file"),
    ("hydra.run.dir=a_file/below", FAILURE, "a_file"),
]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the command lines above speak of: a regular file, and data folders with damaged files."""
    (tmp_path / "a_file").write_text("not a folder")
    for folder in ("damaged/mnist", "damaged/frey_face", "truncated/mnist"):
        (tmp_path / folder).mkdir(parents=True)
    page = b"<html>404</html>"
    (tmp_path / "damaged/mnist/train-images-idx3-ubyte.gz").write_bytes(page)
    (tmp_path / "damaged/frey_face/frey_rawface.mat").write_bytes(page)
    images = gzip.compress(b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 1, 1) + b"\x00\xff")
    (tmp_path / "truncated/mnist/train-images-idx3-ubyte.gz").write_bytes(images)
    monkeypatch.setitem(mnist.SHA256, "train-images-idx3-ubyte.gz", hashlib.sha256(images).hexdigest())
    (tmp_path / "truncated/mnist/train-labels-idx1-ubyte.gz").write_bytes(images[:10])
    (tmp_path / "odd/mnist/train-images-idx3-ubyte.gz").mkdir(parents=True)
    os.renames(make_pipe(tmp_path / "pipe"), tmp_path / "odd/frey_face/frey_rawface.mat")
    write_arrays(tmp_path / "own")
    return tmp_path


def make_pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def write_arrays(folder: Path) -> None:
    """Twenty pictures of two pixels, and what is wrong with others; labels."""
    mine = np.arange(40).reshape(20, 2, 1)
    (folder / "folder").mkdir(parents=True)
    make_pipe(folder / "pipe.npy")
    (folder / "zeros.npy").symlink_to("/dev/zero")
    (folder / "page.npy").write_bytes(b"<html>404</html>")
    arrays = {"mine": mine, "words": mine.astype("U1"), "flat": mine[..., 0], "negative": -mine, "large": mine + 300}
    arrays |= {"nan": mine * np.nan, "infinite": mine + np.inf, "unit": mine + 0.5, "bool": mine > 9}
    arrays |= {"empty": mine[:0], "two": mine[:2], "two_labels": np.arange(2), "rare": np.arange(20)}
    arrays |= {"objects": mine.astype(object)}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    np.save(folder / "short.npy", mine.astype(np.uint8))
    whole = (folder / "short.npy").read_bytes()
    (folder / "short.npy").write_bytes(whole[:-1])
    vast = whole.replace(b"(20, 2, 1), }            ", b"(1048576, 1024, 1024), } ")
    assert len(vast) == len(whole)
    (folder / "vast.npy").write_bytes(vast)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [(line, code, words) for line, code, *words in TRAIN],
)
def test_a_bad_command_line_is_refused_in_one_line_and_leaves_nothing(
    line: str, code: int, words: list[str], surroundings: Path, run_fast: Any
) -> None:
    before = left_behind(surroundings)
    assert_one_line(run_fast(*line.split(), code=code), *words)
    assert left_behind(surroundings) == before


@pytest.mark.parametrize(
    ("gpus", "line", "words"),
    [
        (0, "accelerator=gpu", ("accelerator=gpu", "no GPU", "accelerator=cpu")),
        (0, "devices=[0]", ("devices=[0]", "of 0 that there are", "devices=1")),
        (2, "devices=[2]", ("devices=[2]", "of 2 that there are", "devices=1")),
        (2, "accelerator=gpu devices=4", ("devices=4", "2 GPUs", "type devices=2")),
    ],
)
def test_a_gpu_that_is_not_there_is_refused(
    gpus: int, line: str, words: tuple[str, ...], run_fast: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert_one_line(run_fast(*line.split(), code=USAGE), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["logger=wandb logger.mode=foo", "logger=wandb +logger.foo=1", "logger=csv +logger.foo=1"]
)
def test_a_bad_logger_is_refused_in_one_line_and_the_run_can_go_on_without_it(line: str, run_fast: Run) -> None:
    assert_one_line(run_fast(*line.split(), code=USAGE), "foo", "logger")
    run_fast("logger=none")


def test_a_bad_job_of_a_sweep_is_refused_before_any_runs(run_fast: Any, tmp_path: Path) -> None:
    outcome = run_fast("-m", "latent_dim=2,0", code=USAGE)
    assert_one_line(outcome, "latent_dim must be a whole number of at least 1, found 0")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("main", "key"),
    [(evaluate.main, "run_dir"), (export.main, "run_dir"), (report.main, "sweep"), (dashboard.main, "sweep")],
)
def test_an_entry_point_says_what_it_lacks_and_that_it_takes_no_sweep(main: Any, key: str, tmp_path: Path) -> None:
    assert_one_line(run_main(main, tmp_path, code=USAGE), f"{key} is missing: type {key}=")
    assert_one_line(run_main(main, tmp_path, "-m", f"{key}=a,b", code=USAGE), "-m is for vaelab.train alone")
    assert left_behind(tmp_path) == []


def test_a_bug_is_shown_with_its_traceback_once_and_kept_in_the_log(
    run_fast: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImportanceSampling, "__call__", broken_for_two_latents(ImportanceSampling.__call__))
    outcome = run_fast("latent_dim=2", code=1)
    assert outcome.err.count("Traceback") == 1
    assert outcome.err.count("ZeroDivisionError: my own bug") == 1
    (path,) = tmp_path.glob("logs/runs/*")
    assert "ZeroDivisionError: my own bug" in (path / "train.log").read_text()
    status = json.loads((path / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", "ZeroDivisionError: my own bug")


def broken_for_two_latents(estimator: Any) -> Any:
    def broken(self: Any, vae: Any, x: Any) -> Any:
        if vae.encode(x).event_shape == (2,):
            raise ZeroDivisionError("my own bug")
        return estimator(self, vae, x)

    return broken


def test_who_asks_for_it_gets_the_traceback_of_a_refusal(run_fast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "WANTS_TRACEBACK", True)  # HYDRA_FULL_ERROR=1
    for line in ("hidden_features=0", "data=cifar"):
        assert "Traceback" in run_fast(line, code=1).err


# a folder that is not what it should be


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.yaml", b"a: [1", ("config.yaml", "YAML")),
        ("config.yaml", b"\xff\xfe\x00", ("config.yaml", "YAML")),
        ("config.yaml", b"", ("config.yaml", "format_version")),
        ("config.yaml", b"just words", ("config.yaml", "format_version")),
        ("config.yaml", b"format_version: 99", ("config.yaml", "format_version 99")),
        ("config.yaml", b"format_version: 1", ("config.yaml", "an earlier version", "rerun=true")),
        ("status.json", b"{", ("status.json", "damaged", "rerun=true")),
        ("status.json", b"[1]", ("status.json", "damaged", "rerun=true")),
        ("metrics.json", b"{", ("metrics.json", "damaged", "rerun=true")),
    ],
)
def test_a_damaged_file_of_the_run_folder_is_named_and_nothing_is_overwritten(
    name: str, content: bytes, words: tuple[str, ...], copied: Path, run_fast: Any
) -> None:
    (copied / name).write_bytes(content)
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert_one_line(run_fast("trainer.max_epochs=2", code=FAILURE, figures=True), *words)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_named_and_training_does_not_start_over_silently(copied: Path, run_fast: Any) -> None:
    for name in ("last", "previous"):
        (copied / "checkpoints" / f"{name}.ckpt").write_bytes(b"PK broken")
    outcome = run_fast("trainer.max_epochs=3", code=FAILURE, figures=True)
    assert_one_line(outcome, "last.ckpt", "rerun=true")


EVALUATE = [
    ("", USAGE, "run_dir"),
    ("run_dir=nowhere", FAILURE, "nowhere", "config.yaml", "run_dir=logs/runs/NAME"),
    ("run_dir=a_file", FAILURE, "a_file"),
    ("run_dir=here checkpoint=foo", USAGE, "last or best", "'foo'"),
    ("run_dir=here num_samples=0", USAGE, "num_samples", "at least 1"),
    ("run_dir=here num_samples=abc", USAGE, "num_samples", "abc"),
    ("run_dir=here accelerator=foo", USAGE, "foo"),
    ("run_dir=here colour=red", USAGE, "colour"),
    ("run_dir=no_checkpoint", FAILURE, "last.ckpt", "does not exist"),
    ("run_dir=no_checkpoint checkpoint=best", FAILURE, "best.ckpt", "does not exist"),
    ("run_dir=damaged_checkpoint", FAILURE, "last.ckpt", "cannot be loaded"),
    ("run_dir=truncated_checkpoint", FAILURE, "last.ckpt", "cannot be loaded"),
    ("run_dir=other_model", FAILURE, "last.ckpt", "cannot be loaded"),
    ("run_dir=other_format", FAILURE, "format_version 99"),
    ("run_dir=earlier_version", FAILURE, "earlier_version", "an earlier version of vaelab", "train the run again"),
    ("run_dir=needs_mnist data_dir=empty", FAILURE, "train-images-idx3-ubyte.gz", "empty/mnist"),
]


@pytest.fixture(scope="module")
def folders(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folders that the command lines above speak of."""
    root = tmp_path_factory.mktemp("folders")
    names = (
        "here",
        "no_checkpoint",
        "damaged_checkpoint",
        "truncated_checkpoint",
        "other_model",
        "other_format",
        "earlier_version",
    )
    for name in (*names, "needs_mnist"):
        shutil.copytree(finished.path, root / name)
    shutil.rmtree(root / "no_checkpoint" / "checkpoints")
    (root / "damaged_checkpoint" / "checkpoints" / "last.ckpt").write_bytes(b"not a checkpoint")
    last = root / "truncated_checkpoint" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-500])
    edit(root / "other_model" / "config.yaml", "latent_dim: 2", "latent_dim: 3")
    edit(root / "other_format" / "config.yaml", "format_version: 2", "format_version: 99")
    edit(root / "earlier_version" / "config.yaml", "format_version: 2", "format_version: 1")
    edit(root / "needs_mnist" / "config.yaml", "vaelab.data.Digits", "vaelab.data.MNIST")
    (root / "a_file").write_text("not a folder")
    return root


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert content.count(old) == 1
    path.write_text(content.replace(old, new))


@pytest.mark.parametrize(("line", "code", "words"), [(line, code, words) for line, code, *words in EVALUATE])
def test_a_bad_evaluation_is_refused_in_one_line_and_writes_nothing(
    line: str, code: int, words: list[str], folders: Path
) -> None:
    before = sorted(folders.rglob("*"))
    assert_one_line(run_main(evaluate.main, folders, *line.split(), code=code), *words)
    assert sorted(folders.rglob("*")) == before


def test_a_refused_evaluation_leaves_even_an_empty_working_folder_alone(run_evaluate: Run, tmp_path: Path) -> None:
    run_evaluate("run_dir=nowhere", code=FAILURE)
    assert tmp_path.exists()
