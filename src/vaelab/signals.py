"""Signals: the optimiser step is finished, a checkpoint written, and the program stops; at once after a second Ctrl-C.

| signal | sent by | exit code |
|---|---|---|
| SIGINT | Ctrl-C | 130 |
| SIGTERM | `kill`, container engines, cluster schedulers at the end | 143 |
| SIGUSR1 | SLURM ahead of the end (`#SBATCH --signal=USR1@90`): the job goes back into its queue | 138 |
| SIGUSR2 | whoever has a handler of its own, such as submitit, which is called after the checkpoint | |
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
    """The program was told to stop, and is on its way out.

    Args:
        number: of the signal that told it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (self.number,)  # on its way out of a sweep's worker

    @property
    def exit_code(self) -> int:
        """What a shell would say of a program that the signal ended."""
        return 128 + self.number


class Stop:
    """Whether a signal told this process to stop; see `heeding`.

    Attributes:
        asked: the number of the first signal that did; None as long as there was none.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self.patient = 0
        self.noticed = False
        self.in_threads = False  # a second Ctrl-C cannot stop those but by ending the process
        self.process = os.getpid()
        self.former: dict[int, Any] = {}  # handlers that ours take the place of
        self.others: dict[int, Any] = {}  # those that they do not

    @contextmanager
    def excusing(self) -> Iterator[None]:
        """After a signal, failures in the block are only told of: it may have reached a logger's process as well."""
        try:
            yield
        except Exception as error:
            if self.asked is None:
                raise
            log.warning("after %s: %s", signal.Signals(self.asked).name, " ".join(str(error).split()))

    @contextmanager
    def patiently(self) -> Iterator[None]:
        """While the block runs, signals only set `asked`: the block looks for itself; but for a second Ctrl-C.

        Raises:
            Interrupted: there was a signal.
        """
        self.check()
        self.patient += 1
        try:
            yield
        finally:
            self.patient -= 1
        self.check()

    def check(self) -> None:
        """Raises `Interrupted` if there was a signal."""
        if self.asked is not None:
            raise Interrupted(self.asked)

    def follow(self) -> None:
        """Stops as well: another process of the same training was told to."""
        self.asked = signal.SIGTERM if self.asked is None else self.asked

    def notice(self) -> bool:
        """Whether there was a signal; the first time that there was, says what follows."""
        if self.asked is not None and not self.noticed:
            self.noticed = True
            name = signal.Signals(self.asked).name
            log.warning("%s: stopping after this step, with a checkpoint; Ctrl-C stops at once", name)
        return self.asked is not None

    def install(self) -> None:
        """Takes the signals over, again if somebody took them in the meantime (as Lightning does)."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in (self.others | dict.fromkeys(self.former, self._heed)).items():
                if handler is not None:  # one that is not Python's
                    signal.signal(number, handler)

    def uninstall(self) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)

    def _heed(self, number: int, frame: Any) -> None:
        # nothing is logged here: a handler may run in the middle of a write to the same stream
        first = self.asked is None
        self.asked = number if first else self.asked
        if not first and number == signal.SIGINT and self.in_threads:
            os._exit(128 + number)
        if (first and not self.patient) or (not first and number == signal.SIGINT):
            raise Interrupted(number)


@contextmanager
def heeding(answerable: bool = True) -> Iterator[Stop]:
    """Heeds signals while the block runs; when one has stopped it, whoever else waits for that signal gets his turn.

    That is the handler that stood there before, or SLURM's queue, into which a job that got SIGUSR1 goes back, once.
    SIGTERM is left alone where another handles it, and SIGINT where it is ignored. Within a block that heeds, another
    is the same.

    Args:
        answerable: whether this process is the one to put the job back; its children are not.

    Raises:
        Interrupted: by the block, after a signal.
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
    for number in _SIGNALS:
        handler = signal.getsignal(number)
        (stop.former if _is_ours(number, handler) else stop.others)[number] = handler
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
    """The number of the SLURM job that this is; of one that SLURM has started before, if that is asked for."""
    first = os.environ.get("SLURM_RESTART_COUNT", "0") == "0"
    return None if restarted and first else os.environ.get("SLURM_JOB_ID")


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_heeding: ContextVar[Stop | None] = ContextVar("heeding", default=None)


def _is_ours(number: int, former: Any) -> bool:
    if number == signal.SIGINT:
        return former is signal.default_int_handler
    if number == signal.SIGTERM:
        return former is signal.SIG_DFL
    return callable(former) or (number == signal.SIGUSR1 and former is signal.SIG_DFL)


def _hand_over(number: int, former: Any) -> None:
    if number in (signal.SIGUSR1, signal.SIGUSR2) and callable(former):
        former(number, None)
    elif number == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ and os.environ.get("SLURM_PROCID", "0") == "0":
        _requeue()


def _requeue() -> None:
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ["SLURM_JOB_ID"]
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True)
        log.warning("SLURM job %s goes back into its queue", job)
    except (OSError, subprocess.CalledProcessError) as error:
        log.warning("SLURM job %s could not go back into its queue: %s", job, getattr(error, "stderr", "") or error)
