"""What a command prints, as a display that no work depends on."""

import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any, TextIO, cast

from vaelab.files import FULL


class Display:
    """A text stream that writes what `change` makes of each text, and raises no error when `stream` cannot be written.

    It waits for a slow reader. On a full disk it keeps what fits into the buffer, and tries again at each write. After
    another error it is quiet for good, because the reader or the terminal is gone. It escapes the characters that the
    encoding lacks; otherwise it behaves as `stream`.
    """

    def __init__(self, stream: Any, change: Callable[[str], str] = str) -> None:
        self.stream, self.change = stream, change
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            with suppress(OSError):  # it has no file descriptor, or that is closed
                os.set_blocking(stream.fileno(), True)  # else a slow reader would look like one that is gone

    def write(self, text: str) -> int:
        changed = self.change(text)
        with self._quiet_if_gone():
            self.stream.write(changed)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._quiet_if_gone():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def finish(self) -> None:
        """Flush for the last time, and give up what cannot be written."""
        with self._quiet_if_gone(retry=()):
            self.stream.flush()

    @contextmanager
    def _quiet_if_gone(self, retry: Sequence[int] = FULL) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in retry:
                return
            # replace the descriptor itself, because Python writes its buffer again, and child processes share it
            with suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self.stream.fileno())


@contextmanager
def displayed_output(change: Callable[[str], str] = str) -> Iterator[None]:
    """Make stdout and stderr displays inside the `with` block, also if they are closed."""
    for number in range(3):  # else the next file that is opened would become a standard stream of all child processes
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        out, err = (Display(stream or nowhere, change) for stream in (sys.stdout, sys.stderr))
        with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
            try:
                yield
            finally:
                out.finish()
                err.finish()
