"""The processor cores and threads of this process, and its rank."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import torch

THREADS = "OMP_NUM_THREADS"  # set by users alone
CORES = "VAELAB_CORES"  # this process's share of the cores, if the program that started it divides them
OURS = {"TORCHELASTIC_RUN_ID": "vaelab"}  # in the environment of a process that `distributed` started
GROUPS, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores() -> int:
    """Return the number of processor cores that this process may use.

    It is the least of what its affinity mask, its share, its SLURM job and the quotas of its control groups allow.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [there, number_in(CORES) or there, cores_of_slurm_task() or there, *quotas()]
    return max(1, int(min(limits)))  # a thread more than a quota allows would make the others wait for it


def threads_of_each(num_processes: int = 1) -> int:
    """Return how many threads each of several processes gets: OMP_NUM_THREADS, or its share of the cores.

    It gets no more than PyTorch's own choice, which on some machines is one thread for two logical cores.
    """
    return number_in(THREADS) or max(1, min(torch.get_num_threads(), cores() // num_processes))


def limit_threads() -> None:
    """Make PyTorch use the threads of this process; every process that computes calls this before it does."""
    if (number := threads_of_each()) != torch.get_num_threads():  # setting it also changes how MKL divides its work
        torch.set_num_threads(number)


def cores_of_slurm_task() -> int | None:
    """Return how many cores this task of a SLURM job asked for, or its share of the job's; None outside of SLURM.

    SLURM need not bind a task to its cores, so that the affinity mask may not tell.
    """
    on_node = number_in("SLURM_CPUS_ON_NODE")
    tasks = re.findall(r"(\d+)(?:\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))  # such as 2(x3),1
    return number_in("SLURM_CPUS_PER_TASK") or (on_node and max(1, on_node // max(map(int, tasks), default=1)))


def quotas() -> Iterator[float]:
    """Yield how many cores the quota of each control group of this process allows (Linux, version 1 or 2)."""
    with suppress(OSError):
        for line in GROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            top, files = (CGROUPS / "cpu", ["cfs_quota_us", "cfs_period_us"]) if controllers else (CGROUPS, ["max"])
            if controllers and "cpu" not in controllers.split(","):
                continue
            for group in (PurePosixPath(path), *PurePosixPath(path).parents):  # in a container some may be invisible
                with suppress(OSError):
                    folder = top / group.relative_to("/")
                    quota, period = " ".join((folder / f"cpu.{file}").read_text() for file in files).split()
                    if quota.isdigit():  # not "max" or "-1"
                        yield int(quota) / int(period)


def number_in(variable: str) -> int | None:
    """Return the positive number in an environment variable, or the first of several, as in 4,2; None without one."""
    found = re.match(r"\s*0*([1-9]\d*)", os.environ.get(variable, ""))
    return int(found[1]) if found else None


def this_process() -> tuple[int, int]:
    """Return this process's rank and world size, if vaelab's `launch` set them; else 0 and 1."""
    ours = OURS.items() <= os.environ.items()
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if ours else (0, 1)
