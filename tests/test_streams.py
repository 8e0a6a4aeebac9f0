"""A command whose output cannot be written goes on, without an error message."""

import errno
import io
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import fast, only_run, run_main, status, wait_until
from vaelab import train
from vaelab.streams import Display


def test_a_pipe_without_a_reader_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", buffering=1) as stream:
        display = Display(stream)
        assert display.write("line\n" * 10_000) == 50_000
        display.flush()
        display.writelines(["more\n"] * 10_000)
        print("and again", file=display, flush=True)
    # closing writes what is buffered, without an error


def test_a_slow_reader_gets_every_line() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader) as lines, open(writer, "w", buffering=1) as stream, ThreadPoolExecutor() as pool:
        display = Display(stream)
        assert os.get_blocking(writer)
        read = pool.submit(lines.read)
        display.write("line\n" * 100_000)
        stream.close()
        assert len(read.result()) == 500_000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_quiet() -> None:
    with open("/dev/full", "w") as stream:
        display = Display(stream)
        display.write("kept in the buffer until the flush")
        display.flush()
        display.finish()


class Disk(io.RawIOBase):
    """A file on a disk that has no room at first."""

    full = True
    content = b""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.content += bytes(content)
        return len(content)


@pytest.mark.parametrize("line_buffering", [True, False])
def test_a_disk_that_has_room_again_is_written_to(line_buffering: bool) -> None:
    disk = Disk()
    display = Display(io.TextIOWrapper(io.BufferedWriter(disk), line_buffering=line_buffering))
    print("one", file=display, flush=True)
    disk.full = False
    print("two", file=display, flush=True)
    assert disk.content == b"one\ntwo\n"


def test_characters_that_the_encoding_lacks_are_escaped(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w", encoding="ascii") as stream:
        Display(stream).write("µ \udce9")
    assert (tmp_path / "out").read_text() == r"\xb5 \udce9"


PRINTS = """
import os, sys
from vaelab.streams import displayed_output
with displayed_output():
    print("out"), print("err", file=sys.stderr)
    assert os.open("file", os.O_CREAT) > 2, "a file became a standard stream"
    sys.exit(7)
"""


@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", "> /dev/full 2>&1", "2>&-"])
def test_a_closed_or_full_stream_keeps_the_exit_code(redirection: str, tmp_path: Path) -> None:
    line = f'exec "$0" -c "$1" {redirection}'
    assert subprocess.run(["sh", "-c", line, sys.executable, PRINTS], cwd=tmp_path, check=False).returncode == 7


ONE_RUN = "name=run"
LINES = [
    ("train", *fast(ONE_RUN)),
    ("train", *fast("seeds=2")),
    pytest.param(("train", *fast("devices=2")), marks=pytest.mark.exhaustive),
    ("train", *fast("-m", "seed=1,2", "hydra/launcher=local")),
    ("evaluate", "num_samples=2"),
    pytest.param(("evaluate", "num_samples=2", "devices=2"), marks=pytest.mark.exhaustive),
    pytest.param(("export",), marks=pytest.mark.exhaustive),
    pytest.param(("explore",), marks=pytest.mark.exhaustive),
]


@pytest.mark.slow
@pytest.mark.parametrize("words", LINES)
def test_a_command_whose_display_is_gone_finishes(words: tuple[str, ...], tmp_path: Path) -> None:
    name, *line = words
    if name != "train":
        run_main(train.main, tmp_path, *fast(ONE_RUN))
        line = [*line, f"run_dir={only_run(tmp_path)}"]
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", f"vaelab.{name}", *line]
    try:
        assert subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=writer, check=False).returncode == 0
    finally:
        os.close(writer)
    found = [path.parent for path in tmp_path.rglob("status.json")]
    assert found
    assert {status(path)["state"] for path in found} == {"done"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ([], 1),
        pytest.param(["seeds=2"], 2, marks=pytest.mark.exhaustive),
        pytest.param(["devices=2", "accelerator=cpu"], 1, marks=pytest.mark.exhaustive),
        (["-m", "seed=1,2", "hydra/launcher=local", "hydra.launcher.n_jobs=2"], 2),
        pytest.param(["-m", "seed=1,2", "hydra/launcher=submitit_local"], 2, marks=pytest.mark.exhaustive),
        pytest.param(["-m", "seed=1,2", "hydra/launcher=ray"], 2, marks=pytest.mark.exhaustive),
    ],
)
def test_a_closed_terminal_stops_all_processes_with_checkpoints(words: list[str], runs: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vaelab.train", *fast(*words, "trainer.max_epochs=5000")]
    reader, writer = os.pipe()
    process = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, text=True, start_new_session=True
    )
    os.close(writer)
    try:
        wait_until(lambda: len(list(tmp_path.rglob("last.ckpt"))) == runs, process)
        os.close(reader)
        os.killpg(process.pid, signal.SIGHUP)  # to all processes of the terminal, as the kernel does
        assert process.wait(timeout=600) == 128 + signal.SIGHUP
    finally:
        process.kill()
    found = [path.parent for path in tmp_path.rglob("status.json")]
    assert [status(path)["state"] for path in found] == ["interrupted"] * runs
