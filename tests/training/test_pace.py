"""The warning of a training that something outside of it makes slow."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from vaelab.training import PaceWarning, pace

Chunk = tuple[int, float, float, float]  # steps, seconds, seconds on a core and seconds of waiting for one


def warnings_of(
    chunks: list[Chunk], caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """What is logged in a training of these chunks."""
    clock, module, file = [0.0] * 3, SimpleNamespace(steps=0), tmp_path / "schedstat"
    monkeypatch.setattr(pace, "SCHEDULED", file)
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    callback: Any = PaceWarning()
    file.write_text("0 0 1\n")
    callback.on_train_start(None, module)
    for steps, *spent in chunks:
        callback.on_train_batch_start(None, module)
        module.steps += steps
        clock[:] = [before + more for before, more in zip(clock, spent, strict=True)]
        file.write_text(f"{clock[1] * 1e9:.0f} {clock[2] * 1e9:.0f} 1\n")
        callback.on_train_batch_end(None, module)
        clock[0] += 100  # of validation, which does not count
    return [record.message for record in caplog.records]


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([(50, 5, 5, 0.5)] * 9, []),
        ([(50, 5, 2.5, 2.5)] * 9, ["waits for a processor core in 50 % of its time"]),
        ([(50, 5, 2.5, 2.5)], []),  # for less than a period
        ([(50, 5, 1, 0.1)] * 9, []),  # it waits for a GPU
        ([(50, 5, 5, 0), *[(50, 20, 20, 1)] * 3, *[(50, 60, 60, 1)] * 9], ["now takes 1.2 s, and took 0.25 s before"]),
        ([(50, 60, 60, 0), *[(50, 5, 5, 0)] * 9], []),  # it compiles first
    ],
)
def test_a_slow_training_says_so_once(
    chunks: list[Chunk],
    words: list[str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = warnings_of(chunks, caplog, tmp_path, monkeypatch)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_the_waiting_is_read_once_a_period(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(side_effect=pace.scheduled)
    monkeypatch.setattr(pace, "scheduled", read)
    warnings_of([(50, 5, 5, 0.5)] * 8, caplog, tmp_path, monkeypatch)
    assert read.call_count == 1 + 4  # at the start, and every 10 seconds


def test_times_are_unknown_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "SCHEDULED", tmp_path / "absent")
    assert pace.scheduled() == (0, 0)
