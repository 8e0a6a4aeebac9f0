"""Runs a function in a child process of little memory and little time, and says what became of it."""

import multiprocessing
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
STATM = Path("/proc/self/statm")


def in_bounds(function: Callable[[], Any], mebibytes: int = 512, seconds: int = 60) -> tuple[str, float]:
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
    pages = int(STATM.read_text().split()[0])
    limit = pages * resource.getpagesize() + mebibytes * MIB
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = _peak()
    try:
        found = f"returned {function()}"
    except BaseException as error:
        found = f"{type(error).__name__}: {error}"
    answer.send((found, _peak() - before))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
