"""Launchers of clusters: what they ask for, why jobs wait, and what became of them. SLURM's programs are scripts."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import submitit

from tests.helpers.commands import Run, assert_one_line
from vaelab.runs.processes.cores import CORES, THREADS
from vaelab.sweeps import progress
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers import on_ray, on_submitit
from vaelab.sweeps.launchers.on_submitit import Submitit, folder_for, outcome_of

Script = Callable[[str, str], None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """`script("squeue", "echo '7_0|Priority'")`: what a program does from now on."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)

    def write(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    write("srun", "exit 1")
    write("sbatch", 'cp "$1" "$0.script"; echo Submitted batch job 7')
    write("squeue", "exit 1")
    return write


def spec(path: Path, devices: int = 1) -> JobSpec:
    return JobSpec({"runtime": {"devices": devices, "accelerator": "cpu"}}, path, Path(), {}, "")


def test_jobs_that_slurm_refuses_leave_one_line(script: Script, run_fast: Run, tmp_path: Path) -> None:
    script("sbatch", "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1")
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=nope", code=2)
    assert_one_line(outcome, "SLURM refuses the jobs", "invalid partition specified: nope", "change hydra.launcher")
    assert list(tmp_path.glob("logs/sweeps/*")) == []


@pytest.mark.parametrize(("given", "devices", "asked"), [({}, 1, 1), ({}, 2, 2), ({"cpus_per_task": 3}, 1, 3)])
def test_a_slurm_job_asks_for_a_core_for_each_device(
    given: dict[str, int], devices: int, asked: int, script: Script, tmp_path: Path
) -> None:
    Submitit("slurm", **given).prepare([spec(tmp_path / "sweep" / name, devices) for name in "ab"])
    assert f"--cpus-per-task={asked}\n" in (tmp_path / "programs" / "sbatch.script").read_text()


def test_slurms_own_words_say_why_jobs_wait(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_submitit, "LOOK", 0)
    launcher = Submitit("slurm")
    launcher.prepare([spec(tmp_path / "sweep" / name) for name in "ab"])
    assert launcher.waiting_for() is None  # before the first look
    for lines, words in [
        ("7_0|None\n7_1|None", None),
        (
            "7_0|PartitionConfig\n7_1|PartitionConfig\n8|Held",
            "PartitionConfig (scontrol show job 7 tells more, scancel --state=PENDING 7",
        ),
        ("7_0|None\n7_1|JobArrayTaskLimit", None),
        ("7_0|None\n7_1|(Nodes are DOWN | or reserved)", "queue: (Nodes are DOWN | or reserved) (scontrol"),
    ]:
        script("squeue", f"echo '{lines}'")
        assert launcher.ended() == []
        found = launcher.waiting_for()
        assert (found is None) == (words is None)
        assert (words or "") in (found or "")


def test_a_reason_to_wait_is_told_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    display = progress.SweepProgress("sweep", [])
    told = []
    for reason, seconds in [("A", 5), ("A", 6), ("A", 60), ("B", 5), ("A", 60), (None, 60), ("A", 60), ("B", 60)]:
        display.waiting(reason)
        now[0] += seconds
        display.waiting(reason)
        told.append(capsys.readouterr().out.strip())
    assert told == ["", "A", "", "", "", "", "A", "B"]


@pytest.mark.parametrize(("answer", "words"), [("echo TIMEOUT", "result (TIMEOUT); see"), ("exit 1", "result; see")])
def test_slurms_state_says_how_a_job_ended(answer: str, words: str, script: Script, tmp_path: Path) -> None:
    script("squeue", answer)
    assert words in (outcome_of(submitit.SlurmJob(tmp_path, "7_0"), tmp_path / "job").error or "")


def test_submitted_jobs_are_known_to_the_next_command(script: Script, tmp_path: Path) -> None:
    jobs = [spec(tmp_path / "sweep" / name) for name in "ab"]
    Submitit("slurm").prepare(jobs)
    script("squeue", "echo '7_0|None'; echo '7_1|Priority'")
    script("sbatch", "exit 1")
    again = Submitit("slurm")
    again.prepare(jobs)
    assert [sent.job_id for sent in again.submitted.values()] == ["7_0", "7_1"]
    assert len(list(folder_for(jobs).glob("*_submitted.pkl"))) == 2


@pytest.mark.parametrize(
    ("rays", "users", "expected"),
    [("2", None, None), ("3", None, "3"), (None, "5", "5"), ("2", "2", "2")],
)
def test_a_ray_job_shares_its_cores_unless_the_user_chose(
    rays: str | None, users: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}
    monkeypatch.setattr(on_ray, "perform_or_interrupted", lambda _: seen.update(os.environ) or Outcome("done"))
    for value in (users, rays):  # where the command is typed, then in Ray's worker
        monkeypatch.delenv(THREADS, raising=False)
        if value is not None:
            monkeypatch.setenv(THREADS, value)
        if value is users:
            share = on_ray.share_of({"num_cpus": 2.5})
    monkeypatch.setenv(CORES, "")  # which is put back afterwards
    on_ray._work(spec(Path()), pickle.loads(pickle.dumps(share)))
    assert (seen[CORES], seen.get(THREADS)) == ("2", expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_cpus": 2, "num_gpus": 0}, None),
        ({"num_cpus": 8}, "asks Ray for 8 CPU, and no machine has that: they have 2 CPU; 4 CPU"),
        ({"num_cpus": 4, "num_gpus": 1}, "asks Ray for 4 CPU, 1 GPU, and no machine has that: they have 2 CPU, 1 GPU;"),
        ({"num_cpus": 1, "resources": {"scratch": 1}}, "1 scratch"),
        ({"num_cpus": 1, "memory": 1e12}, "1e+12 memory"),
    ],
)
def test_a_ray_job_that_no_machine_can_hold_fails(
    options: dict[str, object], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines = [{"CPU": 2.0, "GPU": 1.0, "memory": 1e9}, {"CPU": 4.0, "memory": 1e9}]
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    nodes += [{"Alive": False, "Resources": {"CPU": 99.0}}]
    monkeypatch.setattr(on_ray.ray, "nodes", lambda: nodes)
    found = on_ray.missing_for(options)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")
