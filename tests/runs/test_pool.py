"""Child processes: when the parent's work ends in an error, each has time to write its checkpoint."""

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vaelab.runs.processes.pool import Pool

SECONDS = (0.0, 0.5)  # that a process takes to stop


def work(seconds: float, folder: Path) -> None:
    """Work until SIGTERM, then take some seconds to write a file."""

    def finish(*_: object) -> None:
        time.sleep(seconds)
        (folder / f"written {seconds}").touch()
        raise SystemExit

    signal.signal(signal.SIGTERM, finish)
    (folder / f"begun {seconds}").touch()
    while True:
        time.sleep(0.01)


def running(folder: Path) -> Iterator[Any]:
    with Pool(multiprocessing.get_context("fork"), work, [folder] * len(SECONDS)) as pool:
        yield from pool.run(SECONDS)


def fail_outside(folder: Path, error: type[BaseException]) -> None:
    for _ in running(folder):  # not in a variable, so that the error ends the generator
        if len(list(folder.glob("begun *"))) == len(SECONDS):
            raise error


def fail_inside(folder: Path, error: type[BaseException]) -> None:
    with Pool(multiprocessing.get_context("fork"), work, [folder] * len(SECONDS)) as pool:
        for _ in pool.run(SECONDS):
            if len(list(folder.glob("begun *"))) == len(SECONDS):
                raise error


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("written *"))


@pytest.mark.parametrize("fail", [fail_inside, fail_outside])
def test_an_error_lets_every_process_write_its_file(fail: Callable[..., None], tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path, ZeroDivisionError)
    assert written(tmp_path) == [f"written {seconds}" for seconds in SECONDS]


def test_a_second_ctrl_c_kills_every_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fail_inside(tmp_path, KeyboardInterrupt)
    assert written(tmp_path) == []
