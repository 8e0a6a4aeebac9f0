"""Searches by Optuna, through Hydra's plugin for it, that the same line again goes on with."""

import functools
import logging
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import AcquireReturnProxy, FileLock, Timeout

from vaelab.errors import ConfigError, RunFolderError

log = logging.getLogger(__name__)


def make_sweeper(options: Mapping[str, Any]) -> Any:
    """The plugin's sweeper.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        from hydra_plugins.hydra_optuna_sweeper.optuna_sweeper import OptunaSweeper
    except ImportError as error:
        raise ConfigError(
            "hydra/sweeper=optuna needs hydra-optuna-sweeper, which is not installed: type pip install 'vaelab[optuna]'"
        ) from error
    return OptunaSweeper(**options)


def search(sweeper: Any, directory: str, arguments: list[str], retry_failed: bool = True) -> Any:
    """Sweeps until the study has `n_trials` that are complete; what an earlier line left is done first.

    Args:
        sweeper: the plugin's.
        directory: the sweep's folder, for a storage inside of it.
        arguments: of the command line.
        retry_failed: whether trials that failed are left too.

    Returns:
        What the plugin does; None where no trial is complete, of which the sweep itself tells.

    Raises:
        ConfigError: there is nothing to search.
        RunFolderError: another process searches in this folder.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    check_searches(sweeper.sweeper, arguments)
    with locked(Path(directory)):
        go_on(sweeper.sweeper, retry_failed)
        try:
            return sweeper.sweep(arguments)
        except ValueError as error:
            if all(frame.name != "best_trial" for frame in traceback.extract_tb(error.__traceback__)):
                raise
            return None


def check_searches(impl: Any, arguments: Sequence[str]) -> None:
    """Refuses a search of nothing, all of whose trials would be one run.

    Args:
        impl: the plugin's implementation.
        arguments: of the command line.

    Raises:
        ConfigError: says how to type a range.
    """
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    ranges, fixed = create_params_from_overrides([*impl._parse_sweeper_params_config(), *arguments])
    if not ({*ranges, *(impl.search_space or ())} - fixed.keys() or impl.custom_search_space_extender):
        raise ConfigError(
            "hydra/sweeper=optuna has nothing to search: type a range, such as 'latent_dim=choice(2,5,10)' or "
            "'optimizer.lr=interval(1e-4,1e-2)'"
        )


def locked(folder: Path) -> AcquireReturnProxy:
    """Makes the folder and takes the lock on its study; leaving the block gives it back."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / "study.lock").acquire(timeout=0)
    except Timeout as error:
        raise RunFolderError(f"another process searches in {folder}; wait for it or stop it") from error


def go_on(impl: Any, retry_failed: bool) -> None:
    """Has the plugin's implementation do what is left of its stored study; nobody else may be using that."""
    import optuna
    from optuna.trial import TrialState

    grid = getattr(impl.sampler, "func", None) is optuna.samplers.GridSampler  # a partial of it
    trials, again = [], []
    if impl.storage is not None:
        study = optuna.create_study(
            study_name=impl.study_name, storage=impl.storage, directions=impl._get_directions(), load_if_exists=True
        )
        trials, again = study.trials, left_of(study, retry_failed)
        impl.job_idx = len(trials)
        if not grid:
            enqueue(study, again)
    if grid:
        impl.sampler = Grid(impl.sampler, impl, frozenset(trial.number for trial in again), trials)
        return
    complete = sum(trial.state is TrialState.COMPLETE for trial in trials)
    if complete:
        log.warning("%d of %d trials were done before", complete, impl.n_trials)
        sampler: Any = impl.sampler
        sampler.reseed_rng()  # a seeded one would choose the first trials again
    impl.n_trials = max(0, impl.n_trials - complete)


def left_of(study: Any, retry_failed: bool) -> list[Any]:
    """The trials to do again: those that were cut short, which are marked as failed, and those that failed."""
    from optuna.trial import TrialState

    states = (TrialState.RUNNING, TrialState.FAIL) if retry_failed else (TrialState.RUNNING,)
    left = [trial for trial in study.trials if trial.state in states]
    for trial in left:
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    return left


def enqueue(study: Any, trials: Collection[Any]) -> None:
    """Puts the parameters of trials first in the study's line, but for those that are complete, or in it."""
    from optuna.trial import TrialState

    known = [trial.params for trial in study.trials if trial.state is TrialState.COMPLETE]
    known += [trial.system_attrs.get("fixed_params") for trial in study.trials if trial.state is TrialState.WAITING]
    for trial in trials:
        if trial.params and trial.params not in known:
            known.append(trial.params)
            study.enqueue_trial(trial.params)


class Grid(functools.partial[Any]):
    """What makes the plugin's sampler of a grid, which chooses the points that no trial settled; see `go_on`.

    The plugin knows a grid by a partial of Optuna's class, which takes points that failed, or were cut short, for done.
    A line of trials to do first is not for a grid: each takes a point off it, whatever its own parameters are.

    Args:
        made: the partial that Hydra made.
        impl: the plugin's implementation, which gets the number of trials that are left.
        again: numbers of the trials whose points are to be chosen again.
        trials: those of the study so far.
    """

    def __new__(cls, made: Any, *args: Any) -> "Grid":
        return super().__new__(cls, made.func, *made.args, **made.keywords)

    def __init__(self, made: Any, impl: Any, again: Collection[int], trials: Collection[Any]) -> None:
        self.impl, self.again, self.trials = impl, again, trials

    def __call__(self, space: Mapping[str, Any]) -> Any:
        sampler = super().__call__(space)
        size, done = len(sampler._all_grids), len(self.points(sampler, self.trials, complete=True))
        if done:
            log.warning("%d of the grid's %d points were done before", done, size)
        left = size - len(self.points(sampler, self.trials))
        self.impl.n_trials = max(0, min(self.impl.n_trials - done, left))
        sampler._get_unvisited_grid_ids = functools.partial(self.unvisited, sampler)
        sampler.after_trial = lambda *told: None  # Optuna's stops a study that this is not, with an error
        return sampler

    def unvisited(self, sampler: Any, study: Any) -> list[int]:
        """The numbers of the points that are left, as the sampler asks for them."""
        return sorted(set(range(len(sampler._all_grids))) - self.points(sampler, study.trials))

    def points(self, sampler: Any, trials: Collection[Any], complete: bool = False) -> set[int]:
        """The numbers of the points of trials, but for those to be chosen again."""
        return {
            trial.system_attrs["grid_id"]
            for trial in trials
            if "grid_id" in trial.system_attrs
            and sampler._same_search_space(trial.system_attrs["search_space"])
            and trial.number not in self.again
            and (trial.state.name == "COMPLETE" or not complete)
        }
