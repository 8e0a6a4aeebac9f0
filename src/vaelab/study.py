"""Searches by Optuna, through Hydra's plugin for it, that the same line again goes on with."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaelab.checks import ConfigError

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


def search(sweeper: Any, directory: str, arguments: list[str]) -> Any:
    """Sweeps until the study has `n_trials` that are complete; what an earlier line left is done first.

    Args:
        sweeper: the plugin's.
        directory: the sweep's folder, for a storage inside of it.
        arguments: of the command line.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Path(directory).mkdir(parents=True, exist_ok=True)
    impl = sweeper.sweeper
    if impl.storage is not None:
        study = optuna.create_study(
            study_name=impl.study_name, storage=impl.storage, directions=impl._get_directions(), load_if_exists=True
        )
        complete = go_on(study)
        if complete:
            log.warning("%d of %d trials were done before", complete, impl.n_trials)
            impl.sampler.reseed_rng()  # a seeded one would choose the first trials again
        impl.job_idx = len(study.trials)
        impl.n_trials = max(0, impl.n_trials - complete)
    return sweeper.sweep(arguments)


def go_on(study: Any) -> int:
    """Puts trials that failed, or were killed, first in the study's line; returns how many are complete."""
    from optuna.trial import TrialState

    complete = [trial for trial in study.trials if trial.state is TrialState.COMPLETE]
    queued = [trial.params for trial in complete]
    for trial in study.trials:
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    for trial in study.trials:
        if trial.state is TrialState.FAIL and trial.params and trial.params not in queued:
            queued.append(trial.params)
            study.enqueue_trial(trial.params)
    return len(complete)
