"""Processes that share one run or evaluation: one for each device, on this machine."""

import math
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch.distributed import TCPStore

from vaelab.errors import ProcessError
from vaelab.runs.cli import console, one_line
from vaelab.runs.processes.cores import CORES, OURS, cores, limit_threads
from vaelab.runs.processes.pool import DiedError, Pool, fork_server
from vaelab.security.redaction import redact
from vaelab.signals import Interrupted, heeding

PATIENCE = 600  # seconds that processes have to end after one has failed or a signal has come
LOST = 30  # the same if a process has ended already, because the others may wait for it forever


class _Failure(NamedTuple):
    at: float
    error: ProcessError


def launch(function: Callable[..., Any], num_processes: int, *args: Any) -> Any:
    """Run `function(*args)` in several processes, which form a process group; return the result of rank 0.

    After a failure or a signal, tell all processes to stop, and kill slow ones. A second Ctrl-C kills all.

    Raises:
        Interrupted: a signal told this process or a child process to stop.
        ProcessError: a process failed; the message says which, and why.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    count = {"WORLD_SIZE": str(num_processes), "LOCAL_WORLD_SIZE": str(num_processes)}
    place = {"MASTER_ADDR": store.host, "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    environment = os.environ | OURS | count | place | {CORES: str(max(1, cores() // num_processes))}
    in_process = partial(_in_process, function, args)
    failures: list[_Failure] = []
    result, deadline = None, math.inf
    with (
        Pool(fork_server(), in_process, [environment] * num_processes) as pool,
        heeding() as stop,
        stop.patiently(),
    ):
        for ended in pool.run(range(num_processes)):
            rank, answer = ended or (-1, None)
            if isinstance(answer, DiedError) and stop.asked is None:  # a terminal signals all processes at once
                answer = _Failure(time.time(), ProcessError(f"process {rank} of {num_processes} {answer}"))
            if isinstance(answer, _Failure):
                failures.append(answer)
            elif isinstance(answer, Interrupted) and not failures:
                stop.asked = stop.asked or answer.number
            elif rank == 0:
                result = answer
            if failures or stop.asked is not None:
                pool.stop()
                deadline = min(deadline, time.monotonic() + (PATIENCE if ended is None else LOST))
            if time.monotonic() > deadline:
                break
    if failures:
        first, *others = sorted(failures, key=lambda failure: failure.at)  # the first may have made the others fail
        for other in others:
            for note in getattr(other.error, "__notes__", ()):
                first.error.add_note(note)
        raise first.error
    return result


def _in_process(function: Callable[..., Any], args: Sequence[Any], rank: int, environment: Mapping[str, str]) -> Any:
    os.environ.clear()
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    limit_threads()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # the parent process handles it, and sends SIGTERM
    try:
        with console(), heeding(answerable=False):
            return function(*args)
    except Interrupted as interrupted:
        return interrupted
    except Exception as error:
        message = f"process {rank} of {environment['WORLD_SIZE']} failed: {one_line(error)}"
        failure = _Failure(time.time(), ProcessError(message, getattr(error, "details", None)))
        failure.error.add_note(redact("".join(traceback.format_exception(error))))
        time.sleep(1)  # if a killed process broke our connection, `launch` must see that process end first
        return failure
