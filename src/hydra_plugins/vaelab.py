"""Where Hydra looks for launchers. It imports this in every program of the environment, so this imports nothing."""

from collections.abc import Sequence
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher


class SweepLauncher(Launcher):
    """Completes the jobs of a sweep, by `vaelab.sweep`.

    Args:
        jobs: the class that has the jobs done, such as `vaelab.launchers.local.Local`.
        options: its arguments.
    """

    def __init__(self, jobs: str, **options: Any) -> None:
        self.jobs = jobs
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.hydra_context = hydra_context
        self.config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from vaelab.sweep import launch

        return launch(self.config, self.hydra_context, self.jobs, self.options, job_overrides, initial_job_idx)
