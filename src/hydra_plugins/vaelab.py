"""The launcher and the sweeper that Hydra finds. They import vaelab late, because all users of Hydra import this."""

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper


class SweepLauncher(Launcher):
    """Run the jobs of a sweep, by `vaelab.sweeps.sweep`.

    Args:
        jobs: the class that runs the jobs, such as `vaelab.sweeps.launchers.local.Local`.
        options: its arguments.
    """

    def __init__(self, jobs: str, **options: Any) -> None:
        self.jobs = jobs
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from vaelab.sweeps.sweep import Sweep, make_launcher

        self.sweep = Sweep(config, hydra_context.config_loader, make_launcher(self.jobs, self.options))

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        return self.sweep.launch(job_overrides, initial_job_idx)


class JobSweeper(Sweeper):
    """Choose the jobs of a sweep for `SweepLauncher`; end with the sweep's table.

    Args:
        choose: the function that does so, such as `vaelab.sweeps.optuna_search.search`.
        params: key → values, beside what is typed.
        options: the function's other arguments.
    """

    def __init__(self, choose: str, params: dict[str, str] | None = None, **options: Any) -> None:
        self.choose = choose
        self.params = params or {}
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        from vaelab.errors import ConfigError
        from vaelab.runs.configuration import full_keys
        from vaelab.sweeps.choice import parse
        from vaelab.sweeps.sweep import call

        if not isinstance(self.launcher, SweepLauncher):
            raise ConfigError("hydra/launcher must be one of vaelab's own: type hydra/launcher=local")
        with self.launcher.sweep as sweep:
            params = full_keys("train", [f"{key}={value}" for key, value in self.params.items()])
            overrides = parse([*params, *arguments], sweep.loader)
            call("hydra.sweeper", self.choose, self.options, sweep, overrides)
