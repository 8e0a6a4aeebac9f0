"""What the tests of the report and of the dashboards share."""

import os
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.commands import Run, fast, run_main
from tests.helpers.sweep_folders import grid, plan
from vaelab import dashboard, report, train


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained sweep over two decoders that logs to W&B, with its report and dashboards; for reading only.

    It takes long, so that the first worker of pytest-xdist makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    cwd = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "swept"
    with FileLock(f"{cwd}.lock"):
        if not (cwd / "made").exists():
            cwd.mkdir()
            line = ("-m", "decoder=bernoulli,gaussian", "logger=wandb", "logger.project=mine", "sweep.name=look")
            run_main(train.main, cwd, *fast(*line, figures=True))
            for command in (report, dashboard):
                run_main(command.main, cwd, "sweep=logs/sweeps/look")
            (cwd / "made").touch()
    return cwd / "logs" / "sweeps" / "look"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def gridded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two decoders, two latents and two seeds, with its report; for reading only."""
    path = tmp_path_factory.mktemp("gridded") / "sweep"
    path.mkdir()
    sizes = [(f"latent_dim={size}", f"seed={seed}") for size in (2, 5) for seed in (0, 1, 2)]
    plan(path, *((f"decoder={decoder}", *more) for decoder in ("bernoulli", "gaussian") for more in sizes))
    grid(path)
    run_main(report.main, path.parent, "sweep=sweep")
    return path


@pytest.fixture
def run_report(tmp_path: Path) -> Run:
    """`run_report("sweep=sweep", code=0)`: run vaelab.report in `tmp_path`."""
    return partial(run_main, report.main, tmp_path)
