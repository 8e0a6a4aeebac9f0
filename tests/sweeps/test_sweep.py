"""Sweeps: a job that fails takes no other with it, and the same line again runs what is left."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from tests.helpers.commands import ROOT, Run, assert_one_line, fast, run_main, wait_until
from tests.helpers.faults import FAULT
from vaelab import train
from vaelab.errors import SweepError
from vaelab.runs.command_line import COMMAND, hydra_overrides
from vaelab.runs.configuration import CONF
from vaelab.runs.processes.cores import CORES
from vaelab.runs.resolvers import register_resolvers
from vaelab.sweeps.folder import Job, SweepFolder
from vaelab.sweeps.job import JobSpec
from vaelab.sweeps.launchers import on_submitit
from vaelab.sweeps.launchers.base import Running, run_jobs
from vaelab.sweeps.launchers.local import Local, slots_for
from vaelab.sweeps.progress import SweepProgress
from vaelab.sweeps.sweep import Sweep

LAUNCHERS = ("basic", "local", "submitit_local", "ray")
CRASHED = r"SIG|ended without a result|worker died"  # as the launcher knows it
ENDS = {
    "none": ("done", None, ""),
    "raise": ("failed", "my own bug", "ZeroDivisionError: my own bug"),
    "segfault": ("failed", CRASHED, "Segmentation fault"),
    "kill": ("failed", CRASHED, ""),
    "exit": ("failed", "SystemExit", ""),
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


def states(cwd: Path) -> dict[str, str]:
    return {name: job.state for name, job in jobs(cwd).items()}


# failures


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_fails_takes_no_other_with_it(launcher: str, run_fast: Run, tmp_path: Path) -> None:
    acts = {"basic": ("none", "segfault"), "local": ("none", "raise", "segfault", "exit")}.get(
        launcher, ("none", "raise", "kill")
    )
    ends = {act: ENDS[act] for act in acts}
    line = ("-m", FAULT, f"+callbacks.fault.act={','.join(ends)}", "sweep.name=faults", "seed=1")
    outcome = run_fast(*line, f"hydra/launcher={launcher}", code=1)
    lines = outcome.out.splitlines()
    for act, (state, error, traceback) in ends.items():
        job = jobs(tmp_path)[act]
        assert (job.state, bool(job.metrics)) == (state, state == "done"), job.error
        assert re.search(error or "", job.error or "")
        assert any(state in line and f"act={act}" in line for line in lines)
        if traceback:
            start = next(i for i, line in enumerate(lines) if line.startswith("failed:") and f"act={act}" in line)
            text = (tmp_path / lines[start + 2].strip()).read_text()
            assert traceback in text
            assert "faults.py" in text
    assert "sweep folder: logs/sweeps/faults" in outcome.out
    bad, number = len(ends) - 1, len(ends)
    told = f"vaelab: {bad} of {number} jobs are not done; type the same command to run them"
    assert outcome.err.splitlines()[-1] == told
    kept = run_fast(*line, "retry_failed=false", code=1)
    assert f"{number} of {number} jobs need not run" in kept.out
    assert "its process was killed by SIGSEGV" in kept.out or launcher != "basic"


# the same line again


@pytest.mark.slow
def test_the_same_line_retries_failed_jobs_and_adds_new_ones(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.once=true", "sweep.name=again", "steps_per_call=5")
    run_fast(*line, "+callbacks.fault.act=none,interrupt,kill", code=1)
    assert states(tmp_path) == {"none": "done", "interrupt": "interrupted", "kill": "failed"}
    before = {act: job.status["run_id"] for act, job in jobs(tmp_path).items()}
    outcome = run_fast(*line, "+callbacks.fault.act=none,interrupt,kill,raise", code=1)
    assert "1 of 4 jobs need not run" in outcome.out
    assert states(tmp_path) == {**dict.fromkeys(before, "done"), "raise": "failed"}
    assert {act: job.status["run_id"] for act, job in jobs(tmp_path).items() if act in before} == before


@pytest.mark.slow
def test_rerun_puts_the_finished_runs_aside(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "seed=1", "trainer.max_steps=2", "sweep.name=twice")
    run_fast("-m", "seed=1", "trainer.max_steps=2", "sweep.name=twice", "rerun=true")
    assert len(list(tmp_path.glob("logs/sweeps/twice/*.old1/metrics.json"))) == 1


@pytest.mark.slow
def test_batches_of_a_sweep_go_on_after_a_failure(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.act=raise,none", "hydra.sweeper.max_batch_size=1")
    assert "1 of 2 jobs are not done" in run_fast(*line, code=1).err
    assert states(tmp_path) == {"raise": "failed", "none": "done"}


@pytest.mark.slow
def test_a_job_that_another_process_holds_is_left_alone(run_fast: Run, tmp_path: Path) -> None:
    run_fast("-m", "seed=1", "trainer.max_steps=2", "sweep.name=held")
    (job,) = jobs(tmp_path).values()
    before = json.dumps(job.status | {"state": "running"})
    (job.path / "status.json").write_text(before)
    with FileLock(job.path / ".lock"):
        outcome = run_fast("-m", "seed=1", "trainer.max_steps=2", "sweep.name=held", code=1)
    assert "is in use by" in outcome.out
    assert (job.path / "status.json").read_text() == before


# refusals


@pytest.mark.slow
@pytest.mark.parametrize("option", ["init.nope=1", pytest.param("remote.nope=1", marks=pytest.mark.exhaustive)])
def test_an_option_that_ray_refuses_is_one_line(option: str, run_fast: Run, tmp_path: Path) -> None:
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=ray", f"+hydra.launcher.{option}", code=2)
    assert_one_line(outcome, f"Ray refuses hydra.launcher.{option.partition('.')[0]}")
    assert list(tmp_path.glob("logs/sweeps/*")) == []


@pytest.mark.slow
def test_a_launcher_that_cannot_begin_says_so_in_one_line(
    run_fast: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise SweepError("squeue does not answer")

    monkeypatch.setattr(on_submitit, "in_queue", silent)
    monkeypatch.setattr(on_submitit.Submitit, "executor", lambda *_: None)
    outcome = run_fast("-m", "seed=1,2", "hydra/launcher=submitit_slurm", code=1)
    assert outcome.err == "vaelab: squeue does not answer\n"
    assert list(tmp_path.glob("logs/sweeps/*")) == []


def test_nothing_is_submitted_while_the_queue_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [spec(tmp_path / name) for name in "ab"]
    answers: Iterator[dict[str, str] | None] = iter([None, {"7_0": "None"}])
    monkeypatch.setattr(on_submitit, "queued_jobs", lambda: next(answers))
    assert on_submitit.in_queue(jobs) == {}  # nobody is asked: there is no earlier line
    (tmp_path / ".submitit").mkdir()
    (tmp_path / ".submitit" / "jobs.json").write_text('{"a": "7_0", "b": "7_1"}')
    with pytest.raises(SweepError, match="squeue does not answer"):
        on_submitit.in_queue(jobs)
    found = on_submitit.in_queue(jobs)
    assert {job.path.name: sent.job_id for job, sent in found.items()} == {"a": "7_0"}


def test_the_plan_holds_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2hunter2")
    SweepFolder(tmp_path).add({"a": ["+note=hunter2hunter2"]})
    assert SweepFolder(tmp_path).plan == {"a": ["+note=[MY_SECRET_TOKEN]"]}


@pytest.mark.slow
def test_listed_settings_are_combined_with_what_is_swept(run_fast: Run, tmp_path: Path) -> None:
    settings = "hydra.sweeper.settings=['latent_dim=3 objective=iwae','hidden_features=[5,6]']"
    run_fast("-m", "seed=0,1", settings, "sweep.name=listed", "retry_failed=false")
    (path,) = tmp_path.glob("logs/sweeps/*")
    made = {
        (job.config["latent_dim"], job.config["seed"]): job.config["hidden_features"]
        for job in SweepFolder(path).jobs()
    }
    assert made == {(3, 0): 8, (3, 1): 8, (2, 0): [5, 6], (2, 1): [5, 6]}


def test_listed_settings_need_a_name(run_fast: Run) -> None:
    refused = run_fast("-m", "seed=0,1", "hydra.sweeper.settings=['latent_dim=3']", code=2)
    assert_one_line(refused, "type sweep.name=NAME")


@pytest.mark.parametrize("settings", ["latent_dim=3", "['a \\'quote']", "[[1]]", "[3]"])
def test_settings_that_are_no_texts_are_refused(settings: str, run_fast: Run) -> None:
    refused = run_fast("-m", "seed=0,1", f"hydra.sweeper.settings={settings}", "sweep.name=a", code=2)
    assert_one_line(refused, "hydra.sweeper.settings must be a list of texts")


@pytest.mark.slow
def test_two_jobs_with_the_same_run_train_once(run_fast: Run, tmp_path: Path) -> None:
    outcome = run_fast("-m", "seed=1,1", "trainer.max_steps=2")
    assert "two jobs of the sweep are the same run" in outcome.err
    assert outcome.out.count("done") == 3  # a line as it ends, and two rows
    again = run_fast("-m", "seed=1,1", "trainer.max_steps=2", "retry_failed=false", "hydra/launcher=local")
    assert "2 of 2 jobs need not run" in again.out  # control flags are no part of a name
    assert len(list(tmp_path.glob("logs/sweeps/*/*/metrics.json"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)])
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


@pytest.mark.slow
def test_jobs_of_two_processes_keep_apart(run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", FAULT, "+callbacks.fault.act=none,raise", "devices=2", "accelerator=cpu", "logger=wandb")
    outcome = run_fast(*line, "hydra/launcher=local", code=1)
    assert "my own bug" in outcome.out
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["sweeps"]
    assert states(tmp_path) == {"none": "done", "raise": "failed"}
    for job in jobs(tmp_path).values():
        assert len(list(job.path.glob("wandb/offline-run-*"))) == 1
    assert jobs(tmp_path)["none"].metrics["samples_seen"] == 1438  # of all processes together
    assert len([path for path in tmp_path.glob("logs/sweeps/*/*") if path.is_dir()]) == 2


# searches


@pytest.mark.slow
def test_a_search_goes_on_where_it_was(run_fast: Run, tmp_path: Path) -> None:
    pytest.importorskip("optuna", minversion="4")
    space = (FAULT, "+callbacks.fault.act=choice(raise,kill)", "+callbacks.fault.once=true")
    line = ("-m", "hydra/sweeper=optuna", *space, "hydra.sweeper.sampler.seed=0", "trainer.max_steps=2")
    first = run_fast(*line, "sweep.name=search", "hydra.sweeper.n_trials=2", code=1)  # of both values
    assert "jobs are not done" in first.err
    second = run_fast(*line, "sweep.name=search", "hydra.sweeper.n_trials=2")
    assert "my own bug" not in second.out
    assert set(states(tmp_path).values()) == {"done"}
    assert "best_value" in (tmp_path / "logs/sweeps/search/optimization_results.yaml").read_text()


# names


@pytest.mark.slow
def test_a_job_is_found_by_what_it_is(tmp_path: Path) -> None:
    def job(*overrides: str) -> DictConfig:
        with initialize_config_dir(CONF, version_base="1.3"):
            return compose("train", hydra_overrides("train", overrides), return_hydra_config=True)

    register_resolvers()
    sweep = Sweep(job("hydra.sweep.dir=s"), None, Local())
    sweep.names = ["another-00000000"]
    first = sweep.name_of(job("data=digits", "latent_dim=2"))
    for line in (["latent_dim=2", "data=digits"], ["data=digits", "latent_dim=2", "optimizer.lr=1e-3", "name=x"]):
        assert sweep.name_of(job(*line)) == first
    assert sweep.name_of(job("data=digits", "latent_dim=3")) != first
    sweep.names = [f"x-{first[-8:]}", first]
    assert sweep.name_of(job("data=digits", "latent_dim=2")) == first
    assert sweep.name_of(job("data=digits", "latent_dim=2", "hydra.sweep.subdir=own")) == "own"


@pytest.mark.parametrize("typed", [{}, {COMMAND: "vaelab -m seed=1,2"}])
def test_a_job_knows_the_command_if_there_is_one(
    typed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    monkeypatch.delenv(COMMAND, raising=False)
    for name, line in typed.items():
        monkeypatch.setenv(name, line)
    register_resolvers()
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["data=digits", f"hydra.sweep.dir={tmp_path}"], return_hydra_config=True)
    loader = MagicMock()
    loader.load_sweep_config.return_value = cfg
    assert Sweep(cfg, loader, Local()).plan([], 0).environment == typed


def test_an_error_of_the_display_ends_the_launcher() -> None:
    ended: list[str] = []

    class Launcher(Local):
        def run(self, jobs: Sequence[JobSpec]) -> Running:
            try:
                yield None
            finally:
                ended.append("its processes")

    display = MagicMock(spec=SweepProgress, **{"refresh.side_effect": ZeroDivisionError})
    with pytest.raises(ZeroDivisionError):
        run_jobs([MagicMock(spec=JobSpec)], Launcher(), display)
    assert ended == ["its processes"]


@pytest.mark.slow
@pytest.mark.parametrize("sweeper", ["basic", "optuna"])
def test_a_redundant_override_trains_nothing_again(sweeper: str, run_fast: Run, tmp_path: Path) -> None:
    line = ("-m", "seed=choice(1,2)", f"hydra/sweeper={sweeper}", "trainer.max_steps=2")
    if sweeper == "optuna":
        line = (*line, "hydra.sweeper.n_trials=2", "hydra/sweeper/sampler=grid")  # others may draw a seed twice
    run_fast(*line)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("logs/sweeps/*/*/metrics.json")}
    assert len(before) == 2
    run_fast(*line, "optimizer.lr=0.001", "decoder=bernoulli")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("logs/sweeps/*/*/metrics.json")} == before


@pytest.mark.slow
def test_the_preset_finds_the_sweep_of_the_plain_line(tmp_path: Path) -> None:
    common = [override for override in fast("trainer.max_steps=2") if not override.startswith("latent_dim")]
    preset = ("hydra.sweeper.params.latent_dim='2,3'", "hydra.sweeper.params.seed='0'")
    run_main(train.main, tmp_path, "-m", "sweep=latent_by_decoder", *common, *preset)
    outcome = run_main(train.main, tmp_path, "-m", *common, "latent_dim=2,3", "decoder=bernoulli,gaussian", "seed=0")
    assert "4 of 4 jobs need not run" in outcome.out
    assert len(list(tmp_path.glob("logs/sweeps/*"))) == 1


# processes and devices


def spec(path: Path = Path(), devices: object = 1, accelerator: str = "auto") -> JobSpec:
    return JobSpec({"runtime": {"devices": devices, "accelerator": accelerator}}, path, Path(), {}, "")


@pytest.mark.parametrize(
    ("gpus", "width", "n_jobs", "per_gpu", "expected"),
    [
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
    slots = slots_for([spec(devices=width)] * 5, n_jobs, per_gpu)
    assert [slot.get("CUDA_VISIBLE_DEVICES") for slot in slots] == expected


def test_gpus_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,7")
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots_for([spec()], None, 1)] == ["GPU-a", "7"]
    assert all("CUDA_VISIBLE_DEVICES" not in slot for slot in slots_for([spec(devices=[1])], None, 1))  # its own


@pytest.mark.parametrize(("width", "expected"), [(1, (8, "1")), (2, (4, "2")), (8, (1, None))])
def test_jobs_and_their_processes_share_the_cores(
    width: int, expected: tuple[int, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.sweeps.launchers.local.cores", lambda: 8)
    slots = slots_for([spec(devices=width, accelerator="cpu")], None, 1)
    assert (len(slots), slots[0].get(CORES)) == expected


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
