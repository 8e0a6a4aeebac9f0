"""Searches by Optuna, without training: what the same line again asks for, and what it leaves."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from hydra_plugins.vaelab import ResumableOptuna
from vaelab.errors import ConfigError, RunFolderError
from vaelab.sweeps.optuna_search import make_sweeper, search

optuna = pytest.importorskip("optuna", reason="needs optuna: pip install 'vaelab[optuna]'")
SPACE = ["a=choice(1,2,3)", "b=choice(1,2)"]
Value = Callable[[Mapping[str, str]], float]


class Jobs:
    """In the launcher's place: each job's value is made up, or missing, or the search is cut short there."""

    def __init__(self, value: Value, cut_at: int | None) -> None:
        self.value, self.cut_at = value, cut_at
        self.asked: list[tuple[str, ...]] = []

    def launch(self, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        returned = []
        for job in overrides:
            self.asked.append(tuple(sorted(job)))
            if len(self.asked) - 1 == self.cut_at:
                raise KeyboardInterrupt
            value = self.value(dict(override.split("=") for override in job))
            returned.append(JobReturn(status=JobStatus.COMPLETED, _return_value=value))
        return returned


def plus(job: Mapping[str, str]) -> float:
    return float(job["a"]) + float(job.get("b", 0))


def no_twos(job: Mapping[str, str]) -> Any:
    return None if job["a"] == "2" else plus(job)


def failing(job: Mapping[str, str]) -> Any:
    return None


def searched(folder: Path, value: Value, sampler: Any, cut_at: int | None = None, **more: Any) -> list[tuple[str, ...]]:
    """What a search asks for."""
    retry_failed, space = more.pop("retry_failed", True), more.pop("space", SPACE)
    nothing = dict.fromkeys(("search_space", "custom_search_space", "params"))
    options = {"direction": "maximize", "storage": f"sqlite:///{folder}/study.db", "study_name": "vaelab"}
    options |= {"sampler": sampler, "n_trials": 20, "n_jobs": 1, "max_failure_rate": 1.0, **nothing, **more}
    sweeper = make_sweeper(options)
    jobs = Jobs(value, cut_at)
    sweeper.sweeper.launcher, sweeper.sweeper.hydra_context = jobs, object()
    sweeper.sweeper.config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    try:
        assert search(sweeper, str(folder), list(space), retry_failed) is None
    except KeyboardInterrupt:
        assert cut_at is not None
    return jobs.asked


def states(folder: Path) -> Counter[str]:
    study = optuna.load_study(study_name="vaelab", storage=f"sqlite:///{folder}/study.db")
    return Counter(trial.state.name for trial in study.trials)


grid = functools.partial(optuna.samplers.GridSampler)
tpe = functools.partial(optuna.samplers.TPESampler, seed=0)  # to be made for each line
POINTS = {(f"a={a}", f"b={b}") for a in (1, 2, 3) for b in (1, 2)}


# a grid


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_that_was_cut_short_asks_for_what_is_left(n_jobs: int, tmp_path: Path) -> None:
    first = searched(tmp_path, plus, grid, cut_at=4, n_jobs=n_jobs)
    assert states(tmp_path)["COMPLETE"] == 4
    second = searched(tmp_path, plus, grid, n_jobs=n_jobs)
    assert sorted(first[:4] + second) == sorted(POINTS)
    assert searched(tmp_path, plus, grid, n_jobs=n_jobs) == []


@pytest.mark.parametrize("retry_failed", [True, False])
def test_a_grid_asks_again_for_what_failed(retry_failed: bool, tmp_path: Path) -> None:
    assert set(searched(tmp_path, no_twos, grid)) == POINTS
    again = searched(tmp_path, plus, grid, retry_failed=retry_failed)
    assert sorted(again) == ([("a=2", "b=1"), ("a=2", "b=2")] if retry_failed else [])
    assert searched(tmp_path, plus, grid, retry_failed=retry_failed) == []


def test_a_part_of_a_grid_stays_that_part_and_more_trials_add_to_it(tmp_path: Path) -> None:
    first = searched(tmp_path, plus, grid, n_trials=3)
    assert searched(tmp_path, plus, grid, n_trials=3) == []
    second = searched(tmp_path, plus, grid, n_trials=5)
    assert len(set(first + second)) == 5


# other samplers


def test_what_waits_in_line_is_not_put_there_twice(tmp_path: Path) -> None:
    failed = searched(tmp_path, failing, tpe(), n_trials=3, space=["a=interval(1.0, 2.0)"])
    assert searched(tmp_path, plus, tpe(), cut_at=1, n_trials=3, space=["a=interval(1.0, 2.0)"]) == failed[:2]
    assert states(tmp_path)["WAITING"] == 1
    third = searched(tmp_path, plus, tpe(), n_trials=3, space=["a=interval(1.0, 2.0)"])
    assert sorted(third) == sorted(failed[1:])
    assert states(tmp_path)["WAITING"] == 0


def test_failed_trials_are_left_if_so_asked_but_not_those_cut_short(tmp_path: Path) -> None:
    space = ["a=interval(1.0, 2.0)"]
    asked = searched(tmp_path, failing, tpe(), cut_at=2, n_trials=4, space=space)
    again = searched(tmp_path, plus, tpe(), n_trials=1, retry_failed=False, space=space)
    assert again == asked[2:]
    assert states(tmp_path)["WAITING"] == 0


@pytest.mark.parametrize("storage", ["own", None])
@pytest.mark.parametrize("make", [tpe, lambda: grid])
def test_of_a_search_without_any_value_the_sweep_tells(
    make: Callable[[], Any], storage: str | None, tmp_path: Path
) -> None:
    assert len(searched(tmp_path, failing, make(), n_trials=2, **({} if storage else {"storage": None}))) == 2


def test_other_errors_are_raised(tmp_path: Path) -> None:
    def broken(job: Mapping[str, str]) -> float:
        raise AssertionError

    searched(tmp_path, failing, tpe(), n_trials=1)
    with pytest.raises(ValueError, match="GridSampler only supports discrete"):
        searched(tmp_path, broken, grid, space=["a=interval(1.0, 2.0)"])


def test_a_search_of_nothing_is_refused(tmp_path: Path) -> None:
    for space in (["a=1"], ["a=choice(1,2)", "a=1"]):
        with pytest.raises(ConfigError, match="nothing to search"):
            searched(tmp_path, plus, tpe(), space=space)


# two at once


def test_a_second_search_in_a_folder_is_refused_and_takes_no_trial_away(tmp_path: Path) -> None:
    def nested(job: Mapping[str, str]) -> float:
        with pytest.raises(RunFolderError, match=f"another process searches in {tmp_path}; wait for it or stop it"):
            searched(tmp_path, plus, tpe())
        assert states(tmp_path)["RUNNING"] == 1
        return plus(job)

    searched(tmp_path, nested, tpe(), n_trials=2)
    assert states(tmp_path) == {"COMPLETE": 2}
    with FileLock(tmp_path / "study.lock").acquire(timeout=0):  # given back
        pass


# what Hydra is told


@pytest.mark.parametrize(("given", "expected"), [({"retry_failed": False}, False), ({"retry_failed": True}, True)])
def test_the_sweeper_passes_retry_failed_on(
    given: dict[str, bool], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plugin:
        def setup(self, **given: Any) -> None:
            pass

    told: list[Any] = []
    monkeypatch.setattr("vaelab.sweeps.optuna_search.make_sweeper", lambda options: Plugin())
    monkeypatch.setattr("vaelab.sweeps.optuna_search.search", lambda *arguments: told.append(arguments))
    sweeper = ResumableOptuna()
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "folder"}}, **given})
    sweeper.setup(hydra_context=None, task_function=None, config=config)
    sweeper.sweep(["a=1"])
    assert told[0][1:] == ("folder", ["a=1"], expected)
