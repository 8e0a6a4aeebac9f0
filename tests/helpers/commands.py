"""Run the entry points in this process, as a command line would, and look at what they leave."""

import copy
import csv
import io
import json
import logging
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from vaelab.runs.command_line import hydra_overrides
from vaelab.runs.configuration import CONF
from vaelab.runs.folder.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


FAST = (
    *("data=digits", "hidden_features=8", "latent_dim=2"),
    *("trainer.max_epochs=1", "estimator=importance", "estimator.num_samples=2", "logger=none"),
    "~callbacks.figures",  # the slowest part of a short run
)


USAGE, FAILURE = 2, 1  # exit codes


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


def run_main(main: Callable[[], None], cwd: Path, *arguments: str, code: int | None = 0) -> Outcome:
    """Runs an entry point as `python -m` would, in this process and in `cwd`; asserts the exit code, or allows any."""
    out, err = io.StringIO(), io.StringIO()
    with chdir(cwd), restored(), redirect_stdout(out), redirect_stderr(err):
        sys.argv = ["vaelab", *arguments]
        found = exit_code(main)
    outcome = Outcome(found, out.getvalue(), err.getvalue(), cwd)
    assert code in (found, None), f"exit code {found} instead of {code} from {arguments}:\n{outcome.out}\n{outcome.err}"
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
        if "ray" in sys.modules:  # its workers would keep this environment
            sys.modules["ray"].shutdown()
        GlobalHydra.instance().clear()
        logging.captureWarnings(False)
        for log, level, propagate, handlers in logs:
            log.level, log.propagate, log.handlers[:] = level, propagate, handlers
        sys.argv, sys.path[:] = argv, path
        os.environ.clear()
        os.environ.update(environ)
        torch.set_rng_state(rng)


def composing(*overrides: str, config: str = "train") -> DictConfig:
    """The configuration that a command line makes, which the caller may change."""
    return copy.deepcopy(_composed(config, overrides))


@cache
def _composed(config: str, overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(CONF, version_base="1.3"):
        return compose(config, hydra_overrides(config, overrides))


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


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something to come true; fail once `process` has ended, or after more time than a busy machine takes."""
    deadline = time.monotonic() + 600
    while not true():
        assert process is None or process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def failing_at(count: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """Return the function, whose call number `count` raises an error before it does anything."""
    calls = iter(range(1, 100_000))

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == count:
            raise error
        return function(*args, **kwargs)

    return wrapped


def assert_one_line(outcome: Outcome, *words: str) -> None:
    """Assert that a command said one line on stderr, that holds the words, and nothing else."""
    lines = outcome.err.splitlines()
    assert len(lines) == 1, outcome.err
    assert lines[0].startswith("vaelab: ")
    assert "Traceback" not in outcome.err + outcome.out
    assert outcome.out == ""
    for word in words:
        assert word in lines[0], lines[0]


def status(path: Path) -> dict[str, Any]:
    """Return what `status.json` of a run folder says."""
    return json.loads((path / "status.json").read_text())


def evaluation(path: Path) -> dict[str, Any]:
    """Return what `evaluation.json` of a run folder says."""
    return json.loads((path / "evaluation.json").read_text())


def files_in(path: Path) -> dict[str, bytes]:
    """Return the files below a folder, by their relative paths."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def curve_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a run folder's `curves.csv`."""
    with (path / "curves.csv").open() as file:
        return list(csv.DictReader(file))


def only_run(cwd: Path) -> Path:
    """Return the only run folder below `cwd`, but for one named `whole`."""
    (path,) = [path for path in cwd.glob("logs/runs/*") if "whole" not in path.name]
    return path


def steps_in(path: Path, name: str = "last") -> int:
    """Return the optimiser steps that a checkpoint counts."""
    return torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)["counts"]["steps"]
