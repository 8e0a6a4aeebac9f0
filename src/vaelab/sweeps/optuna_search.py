"""Search by Optuna: ask for trials, run each as a job of the sweep, and tell Optuna its value."""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from vaelab.errors import ConfigError, RunFolderError
from vaelab.files import write_atomically
from vaelab.runs.folder.identity import is_control
from vaelab.runs.validate import check_choice, check_whole
from vaelab.sweeps.job import Outcome
from vaelab.sweeps.sweep import Sweep

log = logging.getLogger(__name__)
GRID = "optuna.samplers.GridSampler"  # selects a grid search, for which no sampler is instantiated
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
    """Run trials until the study has `n_trials` complete ones, or all points of a grid.

    `conf/hydra/sweeper/optuna.yaml` explains the arguments. The best trial is written to
    `optimization_results.yaml` in the sweep's folder.
    """
    check_whole("hydra.sweeper.n_trials", n_trials, 1)
    check_whole("hydra.sweeper.n_jobs", n_jobs, 1)
    check_choice("hydra.sweeper.direction", direction, ("maximize", "minimize"))
    space = {key: distribution(override) for key, override in overrides.items() if override.is_sweep_override()}
    fixed = {key: override.get_value_element_as_str() for key, override in overrides.items() if key not in space}
    if not space:
        raise ConfigError("hydra/sweeper=optuna has nothing to search: type for example 'latent_dim=choice(2,5,10)'")
    points = grid_points(overrides, space) if sampler._target_ == GRID else None
    folder = sweep.folder.path
    with _locked(folder):
        settings = sweep.settings([f"{key}={value}" for key, value in fixed.items()])
        study = open_study(folder, space, fixed, settings, direction=direction, storage=storage, study_name=study_name)
        if points is None:
            study.sampler = make_sampler(sampler, len(study.trials))
        complete = _params(study, space, TrialState.COMPLETE)
        left = n_trials - (len(complete) if points is None else sum(point in complete for point in points))
        if left < n_trials:
            log.warning("%d of %d trials were done before", n_trials - left, n_trials)
        trials = trials_of(study, space, points, sweep.config.runtime.retry_failed is not False, left)
        while left > 0 and (batch := list(itertools.islice(trials, min(n_jobs, left)))):
            lines = [[f"{key}={(fixed | trial.params)[key]}" for key in overrides] for trial in batch]
            for trial, outcome in zip(batch, sweep.launch(lines, batch[0].number), strict=True):
                left -= tell(study, trial.number, outcome)
        if study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            best = {"name": "optuna", "best_params": study.best_params, "best_value": study.best_value}
            write_atomically(folder / "optimization_results.yaml", OmegaConf.to_yaml(best))


def open_study(
    folder: Path, space: Space, fixed: Mapping[str, str], settings: str | None, **asked: Any
) -> optuna.Study:
    """Create or reopen the study; refuse one that has another direction, other values or other settings.

    The choices in `space` get the order that they have in the study. `settings` is the identity of what the overrides
    in `fixed` make; None to compare the overrides themselves.
    """
    science = {key: value for key, value in fixed.items() if not is_control(key)}
    try:
        study = optuna.create_study(load_if_exists=True, **asked)
        former = study.user_attrs
        by_text = settings is None or former.get("settings") is None  # an earlier version stored no settings
        if former.get("fixed", science) != science if by_text else former["settings"] != settings:
            raise ValueError(f"it searched with the overrides {former['fixed']}")
        study.set_user_attr("fixed", science)
        if settings is not None:
            study.set_user_attr("settings", settings)
        if (found := study.direction.name.lower()) != asked["direction"]:
            raise ValueError(f"hydra.sweeper.direction was {found}")
        for trial in study.get_trials(deepcopy=False):
            for key in trial.distributions.keys() & space.keys():
                if same_choices(trial.distributions[key], space[key]):
                    space[key] = trial.distributions[key]  # because Optuna compares choices in their order
                optuna.distributions.check_distribution_compatibility(trial.distributions[key], space[key])
    except (ValueError, RuntimeError, SQLAlchemyError) as error:  # RuntimeError: another version of Optuna made it
        raise RunFolderError(f"the study in {folder} cannot continue ({error}): type another sweep.name=") from error
    return study


def same_choices(one: BaseDistribution, other: BaseDistribution) -> bool:
    """Return whether both are choices of the same values, in any order."""
    return (
        isinstance(one, CategoricalDistribution)
        and isinstance(other, CategoricalDistribution)
        and set(one.choices) == set(other.choices)
    )


def make_sampler(options: DictConfig, num_trials: int) -> optuna.samplers.BaseSampler:
    """Return the sampler. Add the number of earlier trials to its seed, because the same seed would repeat them."""
    seed = options.get("seed")
    if seed is not None:
        check_whole("hydra.sweeper.sampler.seed", seed, 0)
    return instantiate(options, **({} if seed is None else {"seed": seed + num_trials}))


def trials_of(
    study: optuna.Study, space: Space, points: Sequence[Params] | None, retry_failed: bool, limit: int
) -> Iterator[Trial | FrozenTrial]:
    """Yield interrupted trials, failed trials, then at most `limit` new ones, from the grid if there is one."""
    cut_short = study.get_trials(states=(TrialState.RUNNING,))
    yield from [trial for trial in cut_short if trial.params.keys() == space.keys()]
    settled = _params(study, space, TrialState.COMPLETE, TrialState.RUNNING)
    failed = [params for params in _params(study, space, TrialState.FAIL) if points is None or params in points]
    begun = settled + failed
    new = [point for point in points or () if point not in begun]
    for params in [*(failed if retry_failed else ()), *new[:limit]]:
        if params not in settled:
            settled.append(params)
            study.add_trial(optuna.create_trial(state=TrialState.RUNNING, params=params, distributions=space))
            yield study.get_trials(deepcopy=False)[-1]
    for _ in range(limit if points is None else 0):
        yield study.ask(space)


def tell(study: optuna.Study, number: int, outcome: Outcome | None) -> bool:
    """Tell Optuna how a trial ended, unless it was interrupted; return whether the trial is complete."""
    if outcome is None or outcome.state == "interrupted":
        return False
    complete = outcome.value is not None and math.isfinite(outcome.value)
    study.tell(number, outcome.value if complete else None, state=None if complete else TrialState.FAIL)
    return complete


def distribution(override: Override) -> BaseDistribution:
    """Return the Optuna distribution of `choice(...)`, `range(...)` or `interval(...)`."""
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


def grid_points(overrides: Mapping[str, Override], space: Space) -> list[Params]:
    """Return the parameters of each point of a grid; refuse a continuous range."""
    values = []
    for key, searched in space.items():
        if not overrides[key].is_discrete_sweep():
            raise ConfigError(f"a grid needs a list of values for {key}: type {key}=choice(...) or {key}=range(...)")
        typed = overrides[key].sweep_string_iterator()
        values.append([searched.to_external_repr(searched.to_internal_repr(value)) for value in typed])
    return [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]


def _params(study: optuna.Study, space: Space, *states: TrialState) -> list[Params]:
    # leave out trials that lack parameters, because Optuna was interrupted while it drew them
    trials = study.get_trials(deepcopy=False, states=states)
    return [trial.params for trial in trials if trial.params.keys() == space.keys()]


def _locked(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / "study.lock").acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(f"another process searches in {folder}; wait for it or stop it") from error
