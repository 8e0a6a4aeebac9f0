"""A function in a process of its own, which ends with the process that started it."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any


class DiedError(Exception):
    """A child process ended without an answer; the message says how."""


class Child:
    """A child process that calls `function(*args)`.

    Args:
        context: how it is started: of `multiprocessing.get_context`.
        function: what it calls; unless the process is forked, of a module that it can import.
        args: what can be sent there.
    """

    def __init__(self, context: BaseContext, function: Callable[..., Any], *args: Any) -> None:
        self.receiver, sender = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(target=_in_child, args=(sender, function, args))  # type: ignore[attr-defined]
        self.process.start()
        sender.close()

    @property
    def sentinel(self) -> int:
        """Return what `multiprocessing.connection.wait` takes; it is ready when the process has ended."""
        return self.process.sentinel

    def send(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def answer(self) -> Any:
        """Wait for the end of the process; return what the function returned.

        Raises:
            DiedError: it returned nothing: the process was killed, or the function failed.
        """
        try:
            return self.receiver.recv()
        except EOFError:
            self.process.join()
            raise DiedError(f"its process {death(self.process.exitcode or 0)}") from None
        finally:
            self.process.join()
            self.receiver.close()


def _in_child(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    sender.send(function(*args))


def death(exit_code: int) -> str:
    """Say how a process ended that said nothing itself, in words that follow a name for it."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{memory}"
