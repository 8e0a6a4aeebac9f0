"""The processor cores and threads of this process, and its rank."""

import os

CORES = "VAELAB_CORES"  # a job's share of the cores, in a sweep that runs several jobs at a time
OURS = {"TORCHELASTIC_RUN_ID": "vaelab"}  # in the environment of a process that `distributed` started


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(there, int(os.environ.get(CORES, there)))


def threads_of_each(num_processes: int) -> int:
    """Return how many threads each of several processes gets: OMP_NUM_THREADS, or its share of the cores."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // num_processes))


def this_process() -> tuple[int, int]:
    """Return this process's rank and world size, if vaelab's `launch` set them; else 0 and 1."""
    ours = OURS.items() <= os.environ.items()
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if ours else (0, 1)
