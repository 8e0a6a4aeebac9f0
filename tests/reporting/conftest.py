"""What the tests of the report and of the dashboards share."""

from functools import partial
from pathlib import Path

import pytest

from tests.helpers.commands import Run, fast, run_main
from tests.helpers.once import once
from tests.helpers.sweep_folders import grid, plan
from vaelab import dashboard, report, train


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained sweep over two decoders that logs to W&B, with its report and dashboards; for reading only."""

    def make(cwd: Path) -> Path:
        line = ("-m", "decoder=bernoulli,gaussian", "logger=wandb", "logger.project=mine", "sweep.name=look")
        run_main(train.main, cwd, *fast(*line, figures=True))
        for command in (report, dashboard):
            run_main(command.main, cwd, "sweep=logs/sweeps/look")
        return cwd / "logs" / "sweeps" / "look"

    return once(tmp_path_factory, "swept", make)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def gridded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two decoders, two latents and two seeds, with its report; for reading only."""

    def make(cwd: Path) -> Path:
        sizes = [(f"latent_dim={size}", f"seed={seed}") for size in (2, 5) for seed in (0, 1, 2)]
        (path := cwd / "sweep").mkdir()
        plan(path, *((f"decoder={decoder}", *more) for decoder in ("bernoulli", "gaussian") for more in sizes))
        grid(path)
        run_main(report.main, cwd, "sweep=sweep")
        return path

    return once(tmp_path_factory, "gridded", make)


@pytest.fixture
def run_report(tmp_path: Path) -> Run:
    """`run_report("sweep=sweep", code=0)`: run vaelab.report in `tmp_path`."""
    return partial(run_main, report.main, tmp_path)
