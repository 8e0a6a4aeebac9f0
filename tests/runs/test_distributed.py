"""Processes that work together: what they come to, and how it ends for all when it ends for one."""

import multiprocessing
import os
import re
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest

from tests.helpers import sharing
from vaelab.errors import ProcessError
from vaelab.runs.processes.cores import CORES, THREADS
from vaelab.runs.processes.distributed import launch


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Afterwards everything is as before: environment, signals, processes, temporary files."""
    get_temp_dir()  # which the server of the processes keeps
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    environment = without_pytests_own(os.environ)
    handlers = [signal.getsignal(number) for number in signal.Signals]
    yield
    assert without_pytests_own(os.environ) == environment
    assert [signal.getsignal(number) for number in signal.Signals] == handlers
    assert multiprocessing.active_children() == []
    assert list(tmp_path.iterdir()) == []


def without_pytests_own(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("PYTEST_")}


@pytest.mark.slow
@pytest.mark.parametrize(("variable", "value", "threads"), [(THREADS, "3", 3), (CORES, "2", 1)])
def test_an_empty_share_adds_nothing(variable: str, value: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.delenv(THREADS, raising=False)
        patch.setenv(variable, value)
        outcome = launch(sharing.exchanging, 2)
    assert outcome["rank"] == 0
    one, other = outcome["found"]
    assert one == other == ([[2, 2], [2, 3], None], [1, -float("inf")], threads, os.getcwd())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (sharing.failing_after_the_first, "process 1 of 2 failed: the cause (ValueError)"),
        (sharing.ended_from_outside, "process 1 of 2 was killed by SIGKILL"),
    ],
)
def test_of_several_failures_the_first_is_told(function: Callable[[], None], words: str) -> None:
    began = time.monotonic()
    with pytest.raises(ProcessError, match=re.escape(words)) as caught:
        launch(function, 2)
    assert time.monotonic() < began + 600  # and not half an hour, after which an exchange gives up
    text = "".join(traceback.format_exception(caught.value))
    assert ('raise ValueError("the cause")' in text) == ("the cause" in words)
