"""Runs a function in a child process of little memory and little time, and says what became of it."""

import ctypes
import multiprocessing
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
STATM = Path("/proc/self/statm")


def in_bounds(function: Callable[[], Any], mebibytes: int = 512, seconds: int = 300) -> tuple[str, float]:
    """What `function` returned or raised, as text, and by how many MiB the child's peak memory rose meanwhile.

    The child may allocate `mebibytes` more than it has, touched or not, and is killed after `seconds`: a hang, a crash
    and a killed process are all an error here.
    """
    if not STATM.exists():
        pytest.skip("memory is bounded and measured as Linux does it")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(function, mebibytes, seconds, there))
    child.start()
    there.close()
    try:
        answer = here.recv()
    except EOFError:
        answer = ("no answer", float("inf"))
    child.join()
    assert child.exitcode == 0, f"the child ended with {child.exitcode}"
    return answer


def _run(function: Callable[[], Any], mebibytes: int, seconds: int, answer: Any) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    before = _peak()
    # memory that the process that forked has freed and kept would be used again, unnoticed: it is given back, and
    # what is there now made to be as much as there ever was
    ctypes.CDLL(None).malloc_trim(0)
    ballast = bytearray(max(0, int(before * MIB) - _size(1)))
    limit = _size(0) + mebibytes * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        found = f"returned {function()}"
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    answer.send((found, _peak() - before))
    del ballast


def _size(column: int) -> int:
    """Bytes that this process has: 0, all that it asked for; 1, those in memory."""
    return int(STATM.read_text().split()[column]) * resource.getpagesize()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
