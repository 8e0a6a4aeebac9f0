"""The launcher and sweeper that Hydra finds. They import vaelab late, because every Hydra program imports this file."""

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from importlib import import_module
from importlib.metadata import metadata
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf


class SweepLauncher(Launcher):
    """Run a sweep's jobs with the class at the path `jobs`, such as `vaelab.sweeps.launchers.local.Local`.

    Args:
        jobs: the path of the class.
        options: the arguments of the class.
    """

    def __init__(self, jobs: str, **options: Any) -> None:
        self.jobs = jobs
        self.options = cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(options)))

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        from vaelab.sweeps.sweep import Sweep

        self.sweep = Sweep(config, hydra_context.config_loader, self.make())

    def make(self) -> Any:
        """Return the `JobsLauncher`."""
        return call("hydra.launcher", self.jobs, self.options)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse the sweeper: `JobSweeper` never calls this method, and other sweepers are not supported."""
        from vaelab.errors import ConfigError

        raise ConfigError("hydra/sweeper must be one of vaelab's own: type hydra/sweeper=basic or optuna")


class JobSweeper(Sweeper):
    """Run a sweep with `SweepLauncher`, then print the sweep's table.

    Args:
        choose: the path of the function that chooses the jobs, such as `vaelab.sweeps.optuna_search.search`.
        params: key → values to sweep over; values typed on the command line override them.
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

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs; return the `Sweep`."""
        from vaelab.runs.command_line import hydra_overrides

        with ours(self.launcher).sweep as sweep:
            params = hydra_overrides("train", [f"{key}={value}" for key, value in self.params.items()])
            call("hydra.sweeper", self.choose, self.options, sweep, parse([*params, *arguments], sweep.loader))
        return sweep


def ours(launcher: Any) -> SweepLauncher:
    """Return a launcher if it is one of vaelab's own, or refuse it."""
    from vaelab.errors import ConfigError

    if not isinstance(launcher, SweepLauncher):
        raise ConfigError("hydra/launcher must be one of vaelab's own: type hydra/launcher=local")
    return launcher


def parse(lines: list[str], loader: Any = None) -> dict[str, Override]:
    """Parse overrides with Hydra's own grammar. Return key → override; the last override of a key counts."""
    return {override.get_key_element(): override for override in OverridesParser.create(loader).parse_overrides(lines)}


def call(node: str, path: str, options: Mapping[str, Any], *arguments: Any) -> Any:
    """Call the class or function at `path` with the options of a `conf/` node.

    Raises:
        ConfigError: the target does not accept one of the options, or a package that it needs is not installed.
    """
    from vaelab.errors import ConfigError
    from vaelab.runs.validate import refusing

    module, _, name = path.rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = error.name in (metadata("vaelab").get_all("Provides-Extra") or ())
        hint = f": type pip install 'vaelab[{error.name}]'" if extra else ""
        raise ConfigError(f"{node} needs the package {error.name}, which is not installed{hint}") from error
    signature = inspect.signature(target)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        known = list(signature.parameters)[len(arguments) :]
        raise ConfigError(f"{node} {error}: its options are {', '.join(known)}") from error
    with refusing(node) if inspect.isclass(target) else nullcontext():
        return target(*arguments, **options)
