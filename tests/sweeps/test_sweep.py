"""Sweeps: a job that fails takes no other with it, and the same line again runs what is left."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from filelock import FileLock

from tests.helpers.commands import Outcome, Run, fast, run_main, wait_until
from tests.helpers.faults import FAULT
from vaelab import train
from vaelab.errors import SweepError
from vaelab.runs.processes.child import death
from vaelab.sweeps.folder import Job, SweepFolder
from vaelab.sweeps.job import JobSpec
from vaelab.sweeps.launchers import on_submitit
from vaelab.sweeps.launchers.local import slots_for

ROOT = Path(__file__).parents[2]
LAUNCHERS = (
    "basic",
    pytest.param("local", marks=pytest.mark.slow),
    pytest.param("submitit_local", marks=pytest.mark.slow),
    pytest.param("ray", marks=pytest.mark.slow),
)
FAULTS = ("-m", FAULT, "+callbacks.fault.act=none,raise,kill,segfault,exit", "sweep.name=faults", "seed=1")
CRASHED = r"SIG|ended without a result|worker died"  # as the launcher knows it
ENDS = {
    "none": ("done", None),
    "raise": ("failed", "my own bug"),
    "kill": ("failed", CRASHED),
    "segfault": ("failed", CRASHED),
    "exit": ("failed", "SystemExit"),
}


@pytest.fixture(autouse=True)
def tests_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(ROOT))


def jobs(cwd: Path) -> dict[str, Job]:
    """The jobs of the only sweep, by what tells them apart."""
    (path,) = cwd.glob("logs/sweeps/*")
    found = SweepFolder(path).jobs()
    common = set.intersection(*(set(job.overrides) for job in found))
    return {" ".join(o.split("=")[1] for o in job.overrides if o not in common): job for job in found}


@pytest.fixture(scope="module", params=LAUNCHERS)
def faulty(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A sweep whose jobs end in all ways that there are, under each launcher."""
    cwd = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.syspath_prepend(str(ROOT))
        return run_main(train.main, cwd, *fast(*FAULTS, f"hydra/launcher={request.param}"), code=1)


# failure isolation


@pytest.mark.parametrize("act", ENDS)
def test_a_job_that_fails_takes_no_other_with_it(act: str, faulty: Outcome) -> None:
    job = jobs(faulty.cwd)[act]
    state, error = ENDS[act]
    assert job.state == state
    assert re.search(error or "", job.error or "")
    assert bool(job.metrics) == (state == "done")


def test_the_table_shows_how_each_job_ended(faulty: Outcome) -> None:
    for act, (state, error) in ENDS.items():
        assert any(state in line and f"act={act}" in line for line in faulty.out.splitlines()), act
        assert re.search(error or "", faulty.out)
    assert "sweep folder: logs/sweeps/faults" in faulty.out
    assert faulty.err.splitlines()[-1] == "vaelab: 4 of 5 jobs are not done; the same line again does what is left"


def test_the_named_log_has_the_traceback(faulty: Outcome) -> None:
    lines = faulty.out.splitlines()
    for act, part in (("raise", "ZeroDivisionError: my own bug"), ("segfault", "Segmentation fault")):
        start = next(i for i, line in enumerate(lines) if line.startswith("failed:") and f"act={act}" in line)
        text = (faulty.cwd / lines[start + 2].strip()).read_text()
        assert part in text
        assert "faults.py" in text


def test_failed_jobs_can_be_left(faulty: Outcome) -> None:
    done = jobs(faulty.cwd)["none"]
    before = {path: path.stat().st_mtime_ns for path in done.path.rglob("*")}
    kept = run_main(train.main, faulty.cwd, *fast(*FAULTS, "retry_failed=false"), code=1)
    assert "5 of 5 jobs need nothing more" in kept.out
    assert "my own bug" in kept.out
    assert {path: path.stat().st_mtime_ns for path in done.path.rglob("*")} == before


# the same line again


@pytest.mark.slow
def test_the_same_line_retries_failed_jobs_and_adds_new_ones(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.once=true", "sweep.name=again", "trainer.max_epochs=2", "steps_per_call=5")
    run_fast(*line, "+callbacks.fault.act=none,raise,kill", code=1)
    before = {act: job.status["run_id"] for act, job in jobs(tmp_path).items()}
    outcome = run_fast(*line, "+callbacks.fault.act=none,raise,kill,segfault", code=1)
    assert "1 of 4 jobs need nothing more" in outcome.out
    after = jobs(tmp_path)
    assert {act: job.state for act, job in after.items()} == {
        **dict.fromkeys(("none", "raise", "kill"), "done"),
        "segfault": "failed",
    }
    assert {act: job.status["run_id"] for act, job in after.items() if act != "segfault"} == before
    run_fast(*line, "+callbacks.fault.act=none,raise,kill,segfault")


@pytest.mark.slow
def test_an_interrupted_job_is_resumed(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.once=true", "+callbacks.fault.act=none,interrupt", "steps_per_call=5")
    run_fast(*line, code=1)
    assert {act: job.state for act, job in jobs(tmp_path).items()} == {"none": "done", "interrupt": "interrupted"}
    run_fast(*line, "retry_failed=false")
    assert {job.state for job in jobs(tmp_path).values()} == {"done"}


@pytest.mark.slow
def test_rerun_puts_the_finished_runs_aside(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "seed=1,2", "trainer.max_steps=2", "sweep.name=twice")
    run_fast("-m", "seed=1,2", "trainer.max_steps=2", "sweep.name=twice", "rerun=true")
    assert {job.state for job in jobs(tmp_path).values()} == {"done"}
    assert len(list(tmp_path.glob("logs/sweeps/twice/*.old1/metrics.json"))) == 2


def test_batches_of_a_sweep_go_on_after_a_failure(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.act=raise,none", "hydra.sweeper.max_batch_size=1")
    assert "1 of 2 jobs are not done" in run_fast(*line, code=1).err
    assert {act: job.state for act, job in jobs(tmp_path).items()} == {"raise": "failed", "none": "done"}


@pytest.mark.slow
def test_a_job_that_another_process_holds_is_left_alone(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "seed=1,2", "trainer.max_steps=2", "sweep.name=held")
    (job,) = (job for job in jobs(tmp_path).values() if "seed_1" in job.name)
    before = json.dumps(job.status | {"state": "running"})
    (job.path / "status.json").write_text(before)
    with FileLock(job.path / ".lock"):
        outcome = run_fast("-m", "seed=1,2", "trainer.max_steps=2", "sweep.name=held", code=1)
    assert "is in use by" in outcome.out
    assert (job.path / "status.json").read_text() == before


@pytest.mark.parametrize("option", ["n_jobs=0", "jobs_per_gpu=0"])
def test_a_launcher_refuses_an_impossible_option_in_one_line(option: str, run_fast: Run) -> None:
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=local", f"hydra.launcher.{option}", code=2)
    assert outcome.err.count("\n") == 1
    assert f"hydra.launcher.{option.split('=')[0]} must be" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("option", ["init.nope=1", "remote.nope=1"])
def test_an_option_that_ray_refuses_is_one_line(option: str, run_fast: Run, tmp_path: Path) -> None:
    ray.shutdown()  # that of another test
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=ray", f"+hydra.launcher.{option}", code=2)
    (line,) = outcome.err.splitlines()
    assert f"Ray refuses what hydra.launcher.{option.partition('.')[0]} has" in line
    assert list(tmp_path.glob("logs/sweeps/*")) == []


def test_a_launcher_that_cannot_begin_says_so_in_one_line(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise SweepError("squeue does not answer")

    monkeypatch.setattr(on_submitit.Submitit, "in_queue", silent)
    monkeypatch.setattr(on_submitit.Submitit, "executor", lambda *_: None)
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=submitit_slurm", code=1)
    assert outcome.err == "vaelab: squeue does not answer\n"
    assert list(tmp_path.glob("logs/sweeps/*")) == []


def test_nothing_is_submitted_while_the_queue_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = on_submitit.Submitit("slurm")
    launcher.paths = [tmp_path / "a", tmp_path / "b"]
    answers: Iterator[set[str] | None] = iter([None, {"7_0"}])
    monkeypatch.setattr(on_submitit, "queued_jobs", lambda: next(answers))
    assert launcher.in_queue(tmp_path) == {}  # nobody is asked: there is no earlier line
    (tmp_path / "jobs.json").write_text('{"a": "7_0", "b": "7_1"}')
    with pytest.raises(SweepError, match="squeue does not answer"):
        launcher.in_queue(tmp_path)
    found = launcher.in_queue(tmp_path)
    assert {number: job.job_id for number, job in found.items()} == {0: "7_0"}


def test_the_plan_holds_no_secrets(run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2hunter2")
    run_fast("-m", "seed=1", "+note=hunter2hunter2", "trainer.max_steps=2")
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in texts if b"hunter2hunter2" in text]


@pytest.mark.slow
def test_two_jobs_with_the_same_run_train_once(run_fast: Run, tmp_path: Path) -> None:
    outcome = run_fast("-m", "seed=1,1", "trainer.max_steps=2")
    assert "two jobs of the sweep are one run" in outcome.err
    assert len(list(tmp_path.glob("logs/sweeps/*/*/metrics.json"))) == 1
    assert outcome.out.count("done") == 3  # a line as it ends, and two rows


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_jobs_with_checkpoints(number: int, tmp_path: Path) -> None:
    line = fast("-m", "seed=1,2,3", "hydra/launcher=local", "hydra.launcher.n_jobs=2", "trainer.max_epochs=5000")
    command = [sys.executable, "-m", "vaelab.train", *line]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(list(tmp_path.glob("logs/sweeps/*/*/checkpoints/last.ckpt"))) >= 2, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()  # if it does not heed the signal
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    found = jobs(tmp_path)
    assert sorted(job.state for job in found.values()) == ["interrupted", "interrupted", "waiting"]
    assert "not begun" in out


# several processes


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["local", "submitit_local"])
def test_jobs_of_two_processes_keep_apart(launcher: str, run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.act=none,raise", "seed=3,4", "devices=2")
    outcome = run_fast(*line, "accelerator=cpu", "logger=wandb", f"hydra/launcher={launcher}", code=1)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["sweeps"]
    found = jobs(tmp_path)
    assert {name: job.state for name, job in found.items()} == {
        **dict.fromkeys(("none 3", "none 4"), "done"),
        **dict.fromkeys(("raise 3", "raise 4"), "failed"),
    }
    assert "my own bug" in outcome.out
    for name, job in found.items():
        assert job.config["seed"] == int(name[-1])  # its own, and not another's
        assert len(list(job.path.glob("wandb/offline-run-*"))) == 1
    whole = found["none 3"].metrics["samples_seen"]
    assert whole == found["none 4"].metrics["samples_seen"] == 1438  # of all processes together
    (sweep,) = tmp_path.glob("logs/sweeps/*")
    assert len([path for path in sweep.iterdir() if path.is_dir() and path.name != ".submitit"]) == 4


# searches


@pytest.mark.slow
def test_a_search_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("optuna", minversion="4")
    space = (FAULT, "+callbacks.fault.act=choice(raise,kill)", "+callbacks.fault.once=true")
    space = (*space, "hydra.sweeper.sampler.seed=0")  # begins with both values, so that no third job is new
    line = fast("-m", "hydra/sweeper=optuna", *space, "trainer.max_steps=2", "sweep.name=search")
    first = run_main(train.main, tmp_path, *line, "hydra.sweeper.n_trials=2", code=1)
    assert "jobs are not done" in first.err
    second = run_main(train.main, tmp_path, *line, "hydra.sweeper.n_trials=3")
    assert {job.state for job in SweepFolder(tmp_path / "logs/sweeps/search").jobs()} == {"done"}
    assert "my own bug" not in second.out
    best = (tmp_path / "logs/sweeps/search/optimization_results.yaml").read_text()
    assert "best_value" in best
    third = run_main(train.main, tmp_path, *line, "hydra.sweeper.n_trials=3")
    assert "3 of 3 trials were done before" in third.err


# names


@pytest.mark.slow
def test_the_preset_finds_the_sweep_of_the_plain_line(tmp_path: Path) -> None:
    short = ("hydra.sweeper.params.latent_dim='2,3'", "hydra.sweeper.params.seed='0'", "trainer.max_steps=2")
    values = [override for override in fast(*short) if not override.startswith("latent_dim")]
    run_main(train.main, tmp_path, "-m", "sweep=latent_by_decoder", *values)
    plain = [override for override in fast("trainer.max_steps=2") if not override.startswith("latent_dim")]
    outcome = run_main(train.main, tmp_path, "-m", *plain, "latent_dim=2,3", "decoder=bernoulli,gaussian", "seed=0")
    assert "4 of 4 jobs need nothing more" in outcome.out
    assert len(list(tmp_path.glob("logs/sweeps/*"))) == 1


@pytest.mark.slow
def test_control_flags_are_no_part_of_a_name(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "seed=1,2", "trainer.max_steps=2")
    again = run_fast("-m", "seed=1,2", "trainer.max_steps=2", "retry_failed=false", "hydra/launcher=local")
    assert "2 of 2 jobs need nothing more" in again.out


# processes and devices


def spec(devices: object = 1, accelerator: str = "auto") -> JobSpec:
    return JobSpec({"runtime": {"devices": devices, "accelerator": accelerator}}, Path(), Path())


@pytest.mark.parametrize(
    ("gpus", "width", "n_jobs", "per_gpu", "expected"),
    [
        (2, 1, None, 1, ["0", "1"]),
        (2, 1, None, 2, ["0", "1", "0", "1"]),
        (4, 2, None, 1, ["0,1", "2,3"]),
        (2, 1, 3, 1, ["0", "1", "0"]),
        (1, 1, 1, 1, [None]),  # one at a time has all
    ],
)
def test_each_job_sees_its_own_gpus(
    gpus: int, width: int, n_jobs: int | None, per_gpu: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    slots = slots_for([spec(width)] * 5, n_jobs, per_gpu)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots] == expected


def test_gpus_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,7")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots_for([spec()], None, 1)] == ["GPU-a", "7"]
    assert all("CUDA_VISIBLE_DEVICES" not in slot for slot in slots_for([spec([1])], None, 1))  # names its own


@pytest.mark.parametrize(("cores", "width", "expected"), [(8, 1, (8, "1")), (8, 2, (4, "1")), (8, 8, (1, None))])
def test_jobs_and_their_processes_share_the_cores(
    cores: int, width: int, expected: tuple[int, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.sweeps.launchers.local.cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    slots = slots_for([spec(width, "cpu")], None, 1)
    assert (len(slots), slots[0].get("OMP_NUM_THREADS")) == expected


def test_death_in_words() -> None:
    assert death(-9) == "was killed by SIGKILL; the machine may have run out of memory"
    assert death(-11) == "was killed by SIGSEGV"
    assert death(3) == "ended with exit code 3"


# the folder


def test_the_plan_keeps_what_was_planned_before(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "sweep")
    folder.add({"a": ["seed=1"]})
    folder.add({"b": ["seed=2"]})
    assert [(job.name, job.overrides, job.state) for job in folder.jobs()] == [
        ("a", ("seed=1",), "waiting"),
        ("b", ("seed=2",), "waiting"),
    ]


def test_a_running_job_without_a_process_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "sweep" / "a"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("format_version: 1\n")
    (path / ".lock").touch()
    status = {"state": "running", "host": os.uname().nodename, "run_id": "0a1b2c3d"}
    (path / "status.json").write_text(json.dumps(status))
    assert [job.state for job in SweepFolder(path.parent).jobs()] == ["killed"]
