"""What the tests of the report and of the dashboards share."""

from pathlib import Path

import pytest

from tests.helpers.commands import fast, run_main
from vaelab import dashboard, report, train


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained sweep over two decoders that logs to W&B, with its report and dashboards; for reading only."""
    cwd = tmp_path_factory.mktemp("swept")
    line = ("-m", "decoder=bernoulli,gaussian", "logger=wandb", "logger.project=mine", "sweep.name=look")
    run_main(train.main, cwd, *fast(*line, figures=True))
    for command in (report, dashboard):
        run_main(command.main, cwd, "sweep=logs/sweeps/look")
    return cwd / "logs" / "sweeps" / "look"
