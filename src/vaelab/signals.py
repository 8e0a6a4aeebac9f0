"""Signals: finish the optimiser step, write a checkpoint, and stop. A second Ctrl-C stops at once.

`docs/survival.md` lists the signals, who sends them, and their exit codes.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

log = logging.getLogger(__name__)


class Interrupted(BaseException):
    """A signal told the program to stop.

    Args:
        number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    def __str__(self) -> str:
        return signal.Signals(self.number).name

    @property
    def exit_code(self) -> int:
        """The exit code by which a shell reports a program that this signal ended."""
        return 128 + self.number


class Stop:
    """Whether a signal told this process to stop; see `heeding`."""

    def __init__(self) -> None:
        self.asked: int | None = None  # the number of the first such signal
        self.in_threads = False  # whether work runs in threads, which a second Ctrl-C stops only by ending the process
        self.noticed = False  # whether `notice` has logged the signal
        self.patient = 0  # how many nested `patiently` blocks are running
        self.process = os.getpid()
        self.former: dict[int, Any] = {}  # the handlers that ours replace, by signal
        self.others: dict[int, Any] = {}  # the handlers that we leave in place

    @contextmanager
    def excusing(self) -> Iterator[None]:
        """After a signal, log the errors of the block instead of raising them.

        The signal may also have ended a helper process, such as a logger's, on which the block depends.
        """
        try:
            yield
        except Exception as error:
            if self.asked is None:
                raise
            log.warning("ignored an error after %s: %s", signal.Signals(self.asked).name, " ".join(str(error).split()))

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """Make the first signal only set `asked` during the block, so that the block chooses where to stop.

        Raises:
            Interrupted: before or after the block, if there was a signal; within it, at a second Ctrl-C.
        """
        self.check()
        self.patient += 1
        try:
            yield
        finally:
            self.patient -= 1
        self.check()

    def check(self) -> None:
        """Raise `Interrupted` if there was a signal."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def follow(self) -> None:
        """Behave as after a SIGTERM, because another process of the same training got a signal."""
        self.asked = self.asked or signal.SIGTERM

    def notice(self) -> bool:
        """Return whether there was a signal. At the first call after it, log what happens next."""
        if self.asked is not None and not self.noticed:
            self.noticed = True
            name = signal.Signals(self.asked).name
            log.warning("%s: stopping after this step, with a checkpoint; Ctrl-C stops at once", name)
        return self.asked is not None

    def install(self) -> None:
        """Install our handlers; call it again after Lightning has installed its own."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in (self.others | dict.fromkeys(self.former, self._heed)).items():
                if handler is not None:  # None stands for a handler that was not set from Python
                    signal.signal(number, handler)

    def uninstall(self) -> None:
        """Put back the handlers that ours replaced."""
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _heed(self, number: int, frame: Any) -> None:
        # do not log here, because the signal may have interrupted a write to the same stream
        first, self.asked = self.asked is None, self.asked or number
        if not first and number == signal.SIGINT and self.in_threads:
            os._exit(128 + number)
        if (first and not self.patient) or (not first and number == signal.SIGINT):
            raise Interrupted(number)


@contextmanager
def heeding(answerable: bool = True) -> Iterator[Stop]:
    """Handle signals while the block runs. Afterwards pass on a SIGUSR1 or SIGUSR2.

    After SIGUSR1 or SIGUSR2, call the previous handler; without one, SIGUSR1 requeues the SLURM job. Leave SIGTERM to
    an existing handler. Keep ignoring a signal that is ignored already. A nested block shares the outer block's `Stop`.

    Args:
        answerable: whether this process passes the signal on; False in child processes.

    Raises:
        Interrupted: the block was stopped by a signal.
    """
    stop = _heeding.get()
    if stop is not None and stop.process == os.getpid():
        yield stop
        return
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    token = _heeding.set(stop)
    for number, default in _DEFAULTS.items():
        handler = signal.getsignal(number)
        ours = (handler is not None and handler is default) or (number in _USER and callable(handler))
        (stop.former if ours else stop.others)[number] = handler
    stop.install()
    try:
        yield stop
    except Interrupted as interrupted:
        stop.uninstall()
        if answerable:
            _hand_over(interrupted.number, stop.former.get(interrupted.number))
        raise
    finally:
        stop.uninstall()
        _heeding.reset(token)


def slurm_job(restarted: bool = False) -> str | None:
    """Return the id of this process's SLURM job, or None. If `restarted`, return it only if the job was requeued."""
    first = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
    return None if restarted and first else os.environ.get("SLURM_JOB_ID")


_USER = (signal.SIGUSR1, signal.SIGUSR2)
_DEFAULTS = {  # the handlers that ours may replace
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
    signal.SIGUSR2: None,  # replaced only if the program has set a handler for it
}
_heeding: ContextVar[Stop | None] = ContextVar("heeding", default=None)


def _hand_over(number: int, former: Any) -> None:
    if number in _USER and callable(former):
        former(number, None)
    elif number == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_PROCID", "0") == "0":
        array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ["SLURM_JOB_ID"]
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
        try:
            subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
            log.warning("SLURM job %s is requeued", job)
        except (OSError, subprocess.CalledProcessError) as error:
            log.warning("SLURM job %s could not be requeued: %s", job, getattr(error, "stderr", "") or error)
