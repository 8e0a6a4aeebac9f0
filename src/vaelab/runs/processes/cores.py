"""How many processor cores there are, and which of several processes this one is."""

import multiprocessing
import os
import signal
import threading
from contextvars import ContextVar
from multiprocessing.connection import wait

launched: ContextVar[bool] = ContextVar(
    "launched", default=False
)  # whether `vaelab.runs.processes.distributed` started this process


CORES = "VAELAB_CORES"  # a job's share, of a sweep whose jobs run side by side


def cores() -> int:
    """The processor cores that this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, int(os.environ.get(CORES, there)))


def threads_of_each(num_processes: int) -> int:
    """How many threads each of several processes gets: as OMP_NUM_THREADS says, or its share of the cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // num_processes))


def this_process() -> tuple[int, int]:
    """The number of this process among those of `distributed`, and how many there are; 0 of 1 outside of them."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched.get() else (0, 1)


def death(exit_code: int) -> str:
    """How a process ended that said nothing itself, in words that follow a name for it."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = "; the machine may have run out of memory" if name == "SIGKILL" else ""
    return f"was killed by {name}{memory}"


def end_with_parent() -> None:
    """Has this process, a child, told to stop when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
