"""Search by Optuna: ask for trials, run each as a job of the sweep, and tell Optuna its value."""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.utils import JobStatus
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from vaelab.errors import ConfigError, RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.folder.identity import is_control
from vaelab.sweeps.launchers.base import check_whole
from vaelab.sweeps.sweep import Sweep

log = logging.getLogger(__name__)
GRID = "optuna.samplers.GridSampler"  # stands for a grid, which needs no sampler
Space = dict[str, BaseDistribution]
Params = dict[str, Any]


def search(
    sweep: Sweep,
    overrides: Mapping[str, Override],
    sampler: DictConfig,
    direction: Any = "maximize",
    storage: str | None = None,
    study_name: str | None = None,
    n_trials: int = 20,
    n_jobs: int = 1,
) -> None:
    """Run the trials that the study lacks of `n_trials` complete ones, each point of a grid once. Failed ones count.

    Trials that an earlier line left running are run again first, then trials that failed.

    Args:
        sweep: launches the jobs. Its folder gets a lock and `optimization_results.yaml`.
        overrides: key → a fixed value, or what is searched.
        sampler: `_target_` of one of `optuna.samplers`, and its arguments.
        direction: `maximize` or `minimize`.
        storage: address of the study's database; None keeps the study in memory.
        study_name: name of the study in the database.
        n_trials: complete trials in all.
        n_jobs: trials that are chosen, and run, at a time.

    Raises:
        ConfigError: there is nothing to search, or something that cannot be searched.
        RunFolderError: another process searches in the folder, or its study is of another search.
    """
    check_whole("hydra.sweeper", n_trials=n_trials, n_jobs=n_jobs)
    if direction not in ("maximize", "minimize"):
        raise ConfigError(f"hydra.sweeper.direction must be maximize or minimize, found {direction}")
    space = {key: distribution(override) for key, override in overrides.items() if override.is_sweep_override()}
    fixed = {key: override.get_value_element_as_str() for key, override in overrides.items() if key not in space}
    if not space:
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to search: type a range, such as 'latent_dim=choice(2,5,10)' or "
            "'optimizer.lr=interval(1e-4,1e-2)'"
        )
    points = grid_points(space) if sampler._target_ == GRID else None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder = sweep.folder.path
    with _locked(folder):
        try:
            study = optuna.create_study(
                study_name=study_name, storage=storage, direction=direction, load_if_exists=True
            )
            check_same_search(study, space, fixed, direction)
        except (ValueError, RuntimeError, SQLAlchemyError) as error:  # the second by another version of Optuna
            raise RunFolderError(f"the study in {folder} cannot go on; type another sweep.name=: {error}") from error
        if points is None:
            study.sampler = make_sampler(sampler, len(study.trials))
        complete = _params(study, space, TrialState.COMPLETE)
        done = len(complete) if points is None else sum(point in complete for point in points)
        if done:
            log.warning("%d of %d trials were done before", done, n_trials)
        trials = trials_of(study, space, points, sweep.config.runtime.retry_failed is not False)
        for left in range(n_trials - done, 0, -n_jobs):
            batch = list(itertools.islice(trials, min(n_jobs, left)))
            if not batch:  # the grid has no more points
                break
            lines = [[f"{key}={(fixed | trial.params)[key]}" for key in overrides] for trial in batch]
            for trial, job in zip(batch, sweep.launch(lines, batch[0].number), strict=True):
                if job.status is JobStatus.COMPLETED:
                    study.tell(trial.number, job.return_value)
                elif job.status is JobStatus.FAILED:
                    study.tell(trial.number, state=TrialState.FAIL)
        if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            best = {"name": "optuna", "best_params": study.best_params, "best_value": study.best_value}
            write_atomically(folder / "optimization_results.yaml", OmegaConf.to_yaml(best))


def trials_of(
    study: optuna.Study, space: Space, points: Sequence[Params] | None, retry_failed: bool
) -> Iterator[Trial | FrozenTrial]:
    """Yield the trials to run: those that were cut short, those that failed, then new ones.

    Args:
        study: the study.
        space: key → what is searched.
        points: the parameters of all trials, for a grid; None for a search without an end.
        retry_failed: whether trials that failed are run again.
    """
    failed = _params(study, space, TrialState.FAIL)
    settled = _params(study, space, TrialState.COMPLETE, TrialState.RUNNING) + ([] if retry_failed else failed)
    yield from [
        trial for trial in study.get_trials(states=(TrialState.RUNNING,)) if trial.params.keys() == space.keys()
    ]
    for params in failed if points is None else points:
        if params not in settled:
            settled.append(params)
            study.add_trial(optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=space))
            yield study.get_trials(deepcopy=False)[-1]
    while points is None:
        yield study.ask(space)


def check_same_search(study: optuna.Study, space: Space, fixed: Mapping[str, str], direction: str) -> None:
    """Raise ValueError if an earlier line searched in another direction, other values, or with other overrides."""
    science = {key: value for key, value in fixed.items() if not is_control(key)}
    if (former := study.user_attrs.get("fixed", science)) != science:
        raise ValueError(f"it searched with the overrides {former}")
    study.set_user_attr("fixed", science)
    if (found := study.direction.name.lower()) != direction:
        raise ValueError(f"hydra.sweeper.direction was {found}")
    for trial in study.get_trials(deepcopy=False):
        for key in trial.distributions.keys() & space.keys():
            optuna.distributions.check_distribution_compatibility(trial.distributions[key], space[key])


def make_sampler(options: DictConfig, num_trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler. A seed is moved by the number of earlier trials, or it would repeat the first trials."""
    seed = options.get("seed")
    if not (seed is None or isinstance(seed, int)):
        raise ConfigError(f"hydra.sweeper.sampler.seed must be a whole number, found {seed!r}: type seed=0 behind it")
    return instantiate(options, **({} if seed is None else {"seed": seed + num_trials}))


def distribution(override: Override) -> BaseDistribution:
    """Return what Optuna draws from for `choice(...)`, `range(...)` or `interval(...)`.

    Raises:
        ConfigError: Optuna refuses it.
    """
    sweep: Any = override.value()
    options: dict[str, Any] = {"log": "log" in getattr(sweep, "tags", ())}
    try:
        if isinstance(sweep, IntervalSweep):
            ends: list[Any] = [sweep.start, sweep.end]
        elif isinstance(sweep, RangeSweep):
            values = list(sweep.range())
            ends, options["step"] = [min(values), max(values)], abs(sweep.step)
        else:
            return CategoricalDistribution(list(override.sweep_string_iterator()))
        kind = IntDistribution if all(isinstance(end, int) for end in ends) else FloatDistribution
        return kind(*ends, **options)
    except ValueError as error:
        raise ConfigError(f"hydra/sweeper=optuna cannot search {override.input_line}: {error}") from error


def grid_points(space: Space) -> list[Params]:
    """Return the parameters of each point of a grid.

    Raises:
        ConfigError: a range is continuous.
    """
    values = itertools.product(*(_grid_values(key, searched) for key, searched in space.items()))
    return [dict(zip(space, point, strict=True)) for point in values]


def _grid_values(key: str, searched: Any) -> Sequence[Any]:
    if isinstance(searched, CategoricalDistribution):
        return searched.choices
    if searched.step is None:
        raise ConfigError(f"a grid needs a list of values for {key}: type {key}=choice(...) or {key}=range(...)")
    number = round((searched.high - searched.low) / searched.step) + 1
    values = [searched.low + i * searched.step for i in range(number)]
    return values if isinstance(searched, IntDistribution) else [float(f"{value:.12g}") for value in values]


def _params(study: optuna.Study, space: Space, *states: TrialState) -> list[Params]:
    # a trial that was cut short while it was drawn lacks some
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial.params for trial in trials if trial.params.keys() == space.keys()]


def _locked(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / "study.lock").acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(f"another process searches in {folder}; wait for it or stop it") from error
