"""What the tests of runs share."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.commands import Outcome, fast, run_main
from tests.helpers.once import once
from tests.helpers.training import script_validations
from vaelab import train
from vaelab.training import PaceWarning

FIVE = "trainer.max_epochs=5"


@pytest.fixture(autouse=True)
def no_word_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command prints does not depend on what else the machine does."""
    monkeypatch.setattr(PaceWarning, "PERIOD", float("inf"))


@pytest.fixture(scope="session")
def runs_of_five_epochs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Two finished runs whose third epoch is the best, by what `keep=` says; for reading only."""

    def make(cwd: Path) -> dict[str, Outcome]:
        runs = {}
        for keep in ("best", "all"):
            (cwd / keep).mkdir()
            runs[keep] = run_main(train.main, cwd / keep, *fast(FIVE, f"keep={keep}"))
        return runs

    with pytest.MonkeyPatch.context() as patch:
        script_validations(patch)
        return once(tmp_path_factory, "five_epochs", make)


@pytest.fixture
def kept(runs_of_five_epochs: dict[str, Outcome], tmp_path: Path) -> Outcome:
    """A copy of the run that kept its best checkpoint alone, where the command lines of `run_fast` find it."""
    return moved(runs_of_five_epochs["best"], tmp_path)


@pytest.fixture
def whole(runs_of_five_epochs: dict[str, Outcome], tmp_path: Path) -> Outcome:
    """A copy of the run that kept all its checkpoints, where the command lines of `run_fast` find it."""
    return moved(runs_of_five_epochs["all"], tmp_path)


def moved(run: Outcome, cwd: Path) -> Outcome:
    shutil.copytree(run.cwd, cwd, dirs_exist_ok=True)
    return replace(run, cwd=cwd)
