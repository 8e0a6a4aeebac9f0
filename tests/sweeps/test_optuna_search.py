"""Searches by Optuna, without training: which jobs a line, and the same line again, runs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hydra_plugins.vaelab import parse
from vaelab.errors import ConfigError, RunFolderError
from vaelab.runs.configuration import CONF
from vaelab.sweeps.folder import SweepFolder
from vaelab.sweeps.job import Outcome
from vaelab.sweeps.sweep import Sweep

optuna = pytest.importorskip("optuna", minversion="4", reason="needs Optuna 4: pip install 'vaelab[optuna]'")
from vaelab.sweeps.optuna_search import distribution, search  # noqa: E402

SPACE = ("a=choice(1,2,3)", "b=range(1,3)")
POINTS = {(f"a={a}", f"b={b}") for a in (1, 2, 3) for b in (1, 2)}
FLOATS = ("a=interval(1.0, 2.0)",)
GRID, TPE = "GridSampler", "TPESampler"
Value = Callable[[Mapping[str, str]], float | None]


class Jobs(Sweep):
    """In the launcher's place: each job's value is made up, or missing, or the search is cut short there."""

    def __init__(self, folder: Path, value: Value, cut_at: int | None, retry_failed: bool) -> None:
        self.folder, self.value, self.cut_at = SweepFolder(folder), value, cut_at
        self.config = OmegaConf.create({"runtime": {"retry_failed": retry_failed}})
        self.asked: list[tuple[str, ...]] = []

    def settings(self, overrides: Sequence[str]) -> str:
        return str(sorted({"c": "0", **dict(override.split("=") for override in overrides)}.items()))

    def launch(self, lines: Sequence[Sequence[str]], first: int) -> list[Outcome | None]:
        returned: list[Outcome | None] = []
        for line in lines:
            self.asked.append(tuple(line))
            if len(self.asked) - 1 == self.cut_at:
                raise KeyboardInterrupt
            value = self.value(dict(override.split("=") for override in line))
            returned.append(Outcome("failed" if value is None else "done", value))
        return returned


def plus(job: Mapping[str, str]) -> float:
    return float(job["a"]) + float(job.get("b", 0))


def no_twos(job: Mapping[str, str]) -> float | None:
    return None if job["a"] == "2" else plus(job)


def failing(job: Mapping[str, str]) -> None:
    pass


def searched(
    folder: Path,
    value: Value = plus,
    sampler: str = TPE,
    space: Sequence[str] = SPACE,
    cut_at: int | None = None,
    retry_failed: bool = True,
    **more: Any,
) -> list[tuple[str, ...]]:
    """What a search asks for."""
    jobs: Any = Jobs(folder, value, cut_at, retry_failed)
    options = OmegaConf.create({"_target_": f"optuna.samplers.{sampler}"} | ({} if sampler == GRID else {"seed": 0}))
    given = {"storage": f"sqlite:///{folder}/study.db", "study_name": "vaelab", **more}
    try:
        search(jobs, parse(list(space)), options, **given)
    except KeyboardInterrupt:
        assert cut_at is not None
    return jobs.asked


def states(folder: Path) -> Counter[str]:
    study = optuna.load_study(study_name="vaelab", storage=f"sqlite:///{folder}/study.db")
    return Counter(trial.state.name for trial in study.trials)


# a grid


@pytest.mark.slow
def test_an_interrupted_grid_asks_only_for_the_remaining_points(tmp_path: Path) -> None:
    first = searched(tmp_path, sampler=GRID, cut_at=4, n_jobs=2)
    assert states(tmp_path)["COMPLETE"] == 4
    second = searched(tmp_path, sampler=GRID, n_jobs=2)
    assert sorted(first[:4] + second) == sorted(POINTS)


@pytest.mark.slow
@pytest.mark.parametrize("retry_failed", [True, False])
def test_a_grid_asks_again_for_what_failed(retry_failed: bool, tmp_path: Path) -> None:
    assert set(searched(tmp_path, no_twos, GRID)) == POINTS
    again = searched(tmp_path, sampler=GRID, retry_failed=retry_failed)
    assert sorted(again) == ([("a=2", "b=1"), ("a=2", "b=2")] if retry_failed else [])


# samplers


@pytest.mark.slow
def test_trials_cut_short_come_first_then_failed_ones(tmp_path: Path) -> None:
    failed = searched(tmp_path, failing, space=FLOATS, n_trials=3)
    assert searched(tmp_path, space=FLOATS, n_trials=3, cut_at=1) == failed[:2]
    assert states(tmp_path) == {"FAIL": 3, "COMPLETE": 1, "RUNNING": 1}
    assert searched(tmp_path, space=FLOATS, n_trials=3) == failed[1:]
    assert searched(tmp_path, space=FLOATS, n_trials=3) == []


@pytest.mark.slow
def test_a_trial_that_fails_again_leaves_room_for_new_ones(tmp_path: Path) -> None:
    failed = searched(tmp_path, failing, space=FLOATS, n_trials=2)
    known: Value = lambda job: None if (f"a={job['a']}",) in failed else plus(job)  # noqa: E731
    again = searched(tmp_path, known, space=FLOATS, n_trials=2)
    assert again[:2] == failed
    assert states(tmp_path) == {"FAIL": 4, "COMPLETE": 2}


@pytest.mark.slow
def test_failed_trials_can_be_left_but_not_those_cut_short(tmp_path: Path) -> None:
    asked = searched(tmp_path, failing, space=FLOATS, n_trials=4, cut_at=2)
    again = searched(tmp_path, space=FLOATS, n_trials=1, retry_failed=False)
    assert again == asked[2:]
    assert states(tmp_path) == {"FAIL": 2, "COMPLETE": 1}


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "space"), [(TPE, FLOATS), (GRID, SPACE)])
def test_more_trials_are_other_trials(sampler: str, space: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first = searched(tmp_path, sampler=sampler, space=space, n_trials=2)
    assert searched(tmp_path / "other", sampler=sampler, space=space, n_trials=2) == first
    second = searched(tmp_path, sampler=sampler, space=space, n_trials=4)
    assert len({*first, *second}) == 4


@pytest.mark.parametrize("sampler", [TPE, GRID])
def test_a_search_without_any_value_ends(sampler: str, tmp_path: Path) -> None:
    assert len(searched(tmp_path, failing, sampler, n_trials=2, storage=None)) == 2
    assert not (tmp_path / "optimization_results.yaml").exists()


def test_the_best_trial_is_written_down(tmp_path: Path) -> None:
    asked = searched(tmp_path, sampler=GRID, space=("c=7", *SPACE))
    assert {job[0] for job in asked} == {"c=7"}  # a fixed value is part of each job
    best = OmegaConf.load(tmp_path / "optimization_results.yaml")
    assert best == {"name": "optuna", "best_params": {"a": "3", "b": 2}, "best_value": 5.0}


@pytest.mark.parametrize("name", sorted(file.stem for file in Path(CONF).glob("hydra/sweeper/sampler/*.yaml")))
def test_each_sampler_of_the_group_searches(name: str, tmp_path: Path) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["hydra/sweeper=optuna", f"hydra/sweeper/sampler={name}"], return_hydra_config=True)
    jobs: Any = Jobs(tmp_path, plus, None, True)
    search(jobs, parse(["a=range(1,9)", "b=range(1,9)"]), cfg.hydra.sweeper.sampler, n_trials=3)
    assert len(jobs.asked) == 3


# what is searched


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a=choice(x,2,1e-3)", optuna.distributions.CategoricalDistribution(["x", "2", "0.001"])),
        ("a=range(1,8,3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("a=range(0,1,0.5)", optuna.distributions.FloatDistribution(0, 0.5, step=0.5)),
        ("a=int(interval(1,4))", optuna.distributions.IntDistribution(1, 4)),
        ("a=tag(log,interval(1e-4,1e-2))", optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)),
    ],
)
def test_each_kind_of_range_has_its_distribution(line: str, expected: Any) -> None:
    assert distribution(parse([line])["a"]) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"space": ["a=1"]}, "nothing to search"),
        ({"space": ["a=interval(2,1)"]}, r"cannot search a=interval\(2,1\)"),
        ({"space": FLOATS, "sampler": GRID}, "a grid needs a list of values for a: type a=choice"),
        ({"n_trials": 0}, "n_trials must be"),
        ({"direction": "up"}, "direction must be"),
    ],
)
def test_an_impossible_search_is_refused(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        searched(tmp_path, **given)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [{"space": ["a=choice(1,2)"]}, pytest.param({"direction": "minimize"}, marks=pytest.mark.slow)]
)
def test_the_study_of_another_search_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    searched(tmp_path, n_trials=1)
    with pytest.raises(RunFolderError, match=r"type another sweep.name="):
        searched(tmp_path, **change)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [TPE, GRID])
def test_a_study_takes_its_choices_in_any_order(sampler: str, tmp_path: Path) -> None:
    first = searched(tmp_path, sampler=sampler, space=["a=choice(1,2,3)"], n_trials=1)
    others = searched(tmp_path, sampler=sampler, space=["a=3,1,2"], n_trials=3)
    assert len(others) == 2
    assert sampler == TPE or len({*first, *others}) == 3


@pytest.mark.parametrize("stored", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_settings_that_could_not_be_resolved_refuse_no_study(
    stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(Jobs, "settings", lambda *_: None)
        searched(tmp_path, n_trials=1)
    if stored:  # as earlier versions did
        study = optuna.load_study(study_name="vaelab", storage=f"sqlite:///{tmp_path}/study.db")
        study.set_user_attr("settings", None)
    assert len(searched(tmp_path, n_trials=2)) == 1


@pytest.mark.slow
def test_the_same_search_in_other_words_goes_on(tmp_path: Path) -> None:
    searched(tmp_path, space=FLOATS, n_trials=1)
    assert len(searched(tmp_path, space=[*FLOATS, "c=0"], n_trials=3)) == 2
    with pytest.raises(RunFolderError, match=r"type another sweep.name="):
        searched(tmp_path, space=[*FLOATS, "c=1"], n_trials=4)


# two at once


@pytest.mark.slow
def test_a_second_search_in_a_folder_is_refused(tmp_path: Path) -> None:
    def nested(job: Mapping[str, str]) -> float:
        with pytest.raises(RunFolderError, match=f"another process searches in {tmp_path}; wait for it or stop it"):
            searched(tmp_path)
        assert states(tmp_path)["RUNNING"] == 1
        return plus(job)

    searched(tmp_path, nested, n_trials=2)
    assert states(tmp_path) == {"COMPLETE": 2}
    with FileLock(tmp_path / "study.lock").acquire(timeout=0):  # given back
        pass
