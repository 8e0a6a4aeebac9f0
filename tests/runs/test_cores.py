"""How many cores and threads a process uses: what its scheduler, its container and its user allow."""

import os
from pathlib import Path

import pytest
import torch

from vaelab.runs.processes import cores as module
from vaelab.runs.processes.cores import CORES, THREADS, cores, limit_threads, threads_of_each


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of 8 cores, for which PyTorch would choose 8 threads, and on which nothing limits this process."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(module, "GROUPS", tmp_path / "absent")
    for name in list(os.environ):
        if name in (CORES, THREADS) or name.startswith("SLURM_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 8),
        ({CORES: "3"}, 3),
        ({"SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "4"}, 2),
        ({"SLURM_CPUS_ON_NODE": "4"}, 4),  # a batch script has the cores of all its tasks
        ({"SLURM_CPUS_ON_NODE": "4", "SLURM_STEP_TASKS_PER_NODE": "2"}, 2),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_STEP_TASKS_PER_NODE": "3(x12),1"}, 2),
        ({"SLURM_CPUS_PER_TASK": "64"}, 8),  # more than the affinity mask
        ({"SLURM_CPUS_PER_TASK": "4", CORES: "2"}, 2),  # a job of a sweep inside a SLURM job
        ({"SLURM_CPUS_PER_TASK": "", CORES: "none"}, 8),
    ],
)
def test_cores_are_those_that_a_scheduler_gave(
    environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cores() == expected


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1),  # of a group above
        ("0::/a\n", {"a/cpu.max": "50000 100000"}, 1),
        ("4:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "300000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
        ("4:cpu,cpuacct:/host\n", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("5:cpuset:/a\n", {"cpu/a/cpu.cfs_quota_us": "100000", "cpu/a/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_heed_the_quotas_of_control_groups(
    groups: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text(content)
    (tmp_path / "groups").write_text(groups)
    monkeypatch.setattr(module, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "top")
    assert cores() == expected


@pytest.mark.parametrize(
    ("chosen", "num_processes", "expected"),
    [(None, 1, 8), (None, 3, 2), (None, 20, 1), ("5", 3, 5), ("4,2", 1, 4), ("", 2, 4), ("nonsense", 1, 8)],
)
def test_users_choose_the_threads_or_processes_share_the_cores(
    chosen: str | None, num_processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if chosen is not None:
        monkeypatch.setenv(THREADS, chosen)
    assert threads_of_each(num_processes) == expected


def test_threads_are_no_more_than_pytorch_would_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)  # one for two logical cores
    assert threads_of_each(1) == 4


@pytest.mark.parametrize(("share", "set_to"), [("2", [2]), ("8", [])])
def test_pytorchs_own_choice_is_left_alone(share: str, set_to: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setenv(CORES, share)
    limit_threads()
    assert found == set_to
