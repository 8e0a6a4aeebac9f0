"""How many processor cores there are, and which of several processes this one is."""

import os
from contextvars import ContextVar

launched: ContextVar[bool] = ContextVar("launched", default=False)  # whether `vaelab.launch` started this process


class ProcessError(Exception):
    """One of several processes failed, which ended the others."""


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def this_process() -> tuple[int, int]:
    """The number of this process among those of `vaelab.launch`, and how many there are; 0 of 1 outside of them."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched.get() else (0, 1)
