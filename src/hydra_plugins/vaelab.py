"""Where Hydra looks for launchers and sweepers. Whatever uses Hydra imports this, and so nothing of vaelab."""

import time
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class SweepLauncher(Launcher):
    """Completes the jobs of a sweep, by `vaelab.sweeps.sweep`.

    Args:
        jobs: the class that has the jobs done, such as `vaelab.sweeps.launchers.local.Local`.
        options: its arguments.
    """

    def __init__(self, jobs: str, **options: Any) -> None:
        self.jobs = jobs
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from vaelab.sweeps.sweep import launch_batch

        return launch_batch(self.config, self.hydra_context, self.jobs, self.options, job_overrides, initial_job_idx)


class PlainSweeper(basic_sweeper.BasicSweeper):
    """Hydra's own, of all combinations; but each job is composed once, by `vaelab.sweeps.sweep` before any runs.

    Args:
        max_batch_size: so many jobs are planned and run, and then the next; None: all are planned before any runs.
        params: key → the values that it takes, beside what is typed.
    """

    def __init__(self, max_batch_size: int | None = None, params: dict[str, str] | None = None) -> None:
        from vaelab.sweeps.launchers.base import check_whole

        check_whole("hydra.sweeper", max_batch_size=max_batch_size)
        super().__init__(max_batch_size, params)

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Leaves that to the launcher, which would do it again."""
        time.sleep(0.001)  # Hydra divides by what this took


class ResumableOptuna(Sweeper):
    """A search by Optuna that the same line again goes on with, by `vaelab.sweeps.optuna_search`.

    Args:
        options: those of the Optuna sweeper of Hydra.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from vaelab.sweeps.optuna_search import make_sweeper

        self.directory = str(config.hydra.sweep.dir)
        self.retry_failed = config.runtime.retry_failed is not False
        self.sweeper = make_sweeper(self.options)
        self.sweeper.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        from vaelab.sweeps.optuna_search import search

        return search(self.sweeper, self.directory, arguments, self.retry_failed)
