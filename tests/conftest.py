"""What the tests share: the full data sets where they are, and the entry points, run in this process."""

import copy
import io
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pooch
import pytest
import requests
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from omegaconf import DictConfig

from vaelab import evaluate, train
from vaelab.config import CONF
from vaelab.run import RunFolder

# the same examples every time, and as long as a busy machine takes
settings.register_profile("vaelab", deadline=None, derandomize=True, database=None)
settings.load_profile("vaelab")

ROOT = Path(__file__).parents[1]
FAST = (
    *("data=digits", "hidden_features=8", "latent_dim=2"),
    *("trainer.max_epochs=1", "estimator.num_samples=2", "logger=none"),
    "~callbacks.figures",  # the slowest part of a short run
)
FULL_SETS = ("mnist/train-images-idx3-ubyte.gz", "frey_face/frey_rawface.mat")


@dataclass
class Outcome:
    """What a command line did: its exit code, what it printed, and where."""

    code: int
    out: str
    err: str
    cwd: Path

    @property
    def path(self) -> Path:
        """The run folder that the command names at its end."""
        found = re.search(r"(?:run folder|finished before): (\S+)", self.out)
        assert found, self.out
        return self.cwd / found[1]


Run = Callable[..., Outcome]


def fast(*overrides: str, figures: bool = False) -> list[str]:
    """The overrides of a run that takes a moment, except where `overrides` say otherwise."""
    given = {key_of(override) for override in overrides} | ({"callbacks.figures"} if figures else set())
    flags = [override for override in overrides if override.startswith("-")]  # which must come first
    values = [override for override in overrides if override not in flags]
    return flags + [override for override in FAST if key_of(override) not in given] + values


def key_of(override: str) -> str:
    return override.lstrip("+~").split("=")[0]


def run_main(main: Callable[[], None], cwd: Path, *arguments: str, code: int = 0) -> Outcome:
    """Runs an entry point as `python -m` would, in this process and in `cwd`; asserts the exit code."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), restored(), redirect_stdout(out), redirect_stderr(err):
        sys.argv = ["vaelab", *arguments]
        found = exit_code(main)
    outcome = Outcome(found, out.getvalue(), err.getvalue(), cwd)
    assert found == code, f"exit code {found} instead of {code} from {arguments}:\n{outcome.out}\n{outcome.err}"
    return outcome


def exit_code(main: Callable[[], None]) -> int:
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


@contextmanager
def restored() -> Iterator[None]:
    """Puts back what an entry point changes for its whole process."""
    argv, path, environ, rng = sys.argv, sys.path[:], dict(os.environ), torch.get_rng_state()
    names = (None, "pytorch_lightning", "lightning_fabric")
    logs = [(log, log.level, log.propagate, log.handlers[:]) for log in map(logging.getLogger, names)]
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        logging.captureWarnings(False)
        for log, level, propagate, handlers in logs:
            log.level, log.propagate, log.handlers[:] = level, propagate, handlers
        sys.argv, sys.path[:] = argv, path
        os.environ.clear()
        os.environ.update(environ)
        torch.set_rng_state(rng)


@pytest.fixture
def run_train(tmp_path: Path) -> Run:
    """`run_train("latent_dim=3", ..., code=0)`: vaelab.train in `tmp_path`."""
    return partial(run_main, train.main, tmp_path)


@pytest.fixture
def run_fast(tmp_path: Path) -> Run:
    """`run_fast("latent_dim=3", ..., code=0, figures=False)`: like `run_train`, with `FAST` below what is given."""

    def run(*overrides: str, code: int = 0, figures: bool = False) -> Outcome:
        return run_main(train.main, tmp_path, *fast(*overrides, figures=figures), code=code)

    return run


@pytest.fixture
def run_evaluate(tmp_path: Path) -> Run:
    """`run_evaluate("run_dir=...", code=0)`: vaelab.evaluate in `tmp_path`."""
    return partial(run_main, evaluate.main, tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A finished run of two epochs with all callbacks; its folder is for reading only."""
    cwd = tmp_path_factory.mktemp("finished")
    return run_main(train.main, cwd, *fast("trainer.max_epochs=2", figures=True))


@pytest.fixture
def copied(finished: Outcome, tmp_path: Path) -> Path:
    """A copy of the finished run's folder, where the command lines of `run_fast` find it."""
    folder = tmp_path / finished.path.relative_to(finished.cwd)
    shutil.copytree(finished.path, folder)
    return folder


@pytest.fixture(scope="session")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 epochs, never interrupted; its folder is for reading only."""
    return run_main(train.main, tmp_path_factory.mktemp("long"), *fast("trainer.max_epochs=4")).path


def composing(*overrides: str, config: str = "train") -> DictConfig:
    """The configuration that a command line makes, which the caller may change."""
    return copy.deepcopy(_composed(config, overrides))


@cache
def _composed(config: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(config, list(overrides))


@pytest.fixture
def composed() -> Callable[..., DictConfig]:
    """`composed("latent_dim=3", ...)`: the configuration that a command line makes."""
    return composing


@pytest.fixture
def as_users_have_it() -> Iterator[None]:
    """Without the run-time type checks of the tests, which a user does not have, and which hide the code's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def data_dir(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the full data sets, which commands then use as well."""
    folder = (ROOT / os.environ.get("VAELAB_DATA_DIR", "data")).resolve()
    missing = [file for file in FULL_SETS if not (folder / file).exists()]
    if missing:
        pytest.skip(f"needs the full data sets: {folder} lacks {', '.join(missing)}; set VAELAB_DATA_DIR")
    monkeypatch.setenv("VAELAB_DATA_DIR", str(folder))
    return folder


@pytest.fixture(autouse=True)
def the_same_draws() -> None:
    """Seed every generator that is global, so that no test depends on the tests before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on the user's environment, or on a network."""
    for name in [name for name in os.environ if name.startswith(("WANDB_", "HYDRA_"))]:
        monkeypatch.delenv(name)

    def no_network(url: str, *args: Any, **kwargs: Any) -> None:
        raise requests.ConnectionError(f"no network in tests: {url}")

    monkeypatch.setattr(pooch, "retrieve", no_network)


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_is_heard() -> Iterator[None]:
    """Undo what a shell does that starts the tests in the background: they, and their children, would ignore SIGINT."""
    former = signal.getsignal(signal.SIGINT)
    if former == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and waiting for the disk is half the time of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True, scope="session")
def no_composing_twice() -> Iterator[None]:
    """Hydra composes a command line once more, to find a `hydra.mode` in it; tests of `sweep=` type -m instead."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hydra, "get_mode", lambda *args, **kwargs: None)
        yield


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to come true; fail once `process` has ended, or after more time than a busy machine takes."""
    deadline = time.monotonic() + 600
    while not true():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def weights(path: Path, name: str = "last") -> dict[str, torch.Tensor]:
    """The model's weights in a run folder's checkpoint."""
    return torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_same_weights(a: Path, b: Path, name: str = "last") -> None:
    """Bit by bit, and of the same names."""
    here, there = weights(a, name), weights(b, name)
    assert here.keys() == there.keys()
    for key, value in here.items():
        assert torch.equal(value, there[key]), key


def results(path: Path) -> dict[str, float]:
    """A run folder's metrics, without the time that they took."""
    metrics = RunFolder(path, {}, rerun=True).metrics
    return {name: value for name, value in metrics.items() if name != "seconds"}
