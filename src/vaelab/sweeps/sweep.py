"""A sweep: its jobs planned, those that are done passed over, the others launched; and what became of each."""

import functools
import inspect
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, cast

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vaelab.errors import ConfigError, SweepError
from vaelab.runs.cli import redact_file
from vaelab.runs.configuration import contents
from vaelab.runs.folder.names import swept_keys
from vaelab.runs.validate import check, check_complete
from vaelab.signals import Interrupted, heeding
from vaelab.sweeps.folder import SweepFolder, remove_if_refused
from vaelab.sweeps.job import JobSpec, Outcome, Planned
from vaelab.sweeps.launchers.base import JobsLauncher
from vaelab.sweeps.perform import outcome_before
from vaelab.sweeps.progress import SweepProgress, show_sweep

log = logging.getLogger(__name__)
NEEDS = ("submitit", "ray")  # packages, each an extra of its name


class JobError(SweepError):
    """What a sweeper gets to know of one job that failed."""


class Failed(JobReturn):
    """Of a job that failed; Hydra's own prints a line of its own when it is asked for its value."""

    error: JobError

    @property
    def return_value(self) -> Any:
        raise self.error

    @return_value.setter
    def return_value(self, value: Any) -> None:
        self._return_value = value


class Sweep:
    """The jobs of one command line, over all batches that its sweeper launches.

    Args:
        folder: of the sweep.
        launcher: has the jobs done.
    """

    def __init__(self, folder: SweepFolder, launcher: JobsLauncher) -> None:
        self.folder = folder
        self.launcher = launcher
        self.jobs: list[Planned] = []

    def launch(self, planned: Sequence[Planned]) -> None:
        """Has those jobs done that are not.

        Raises:
            Interrupted: a signal stopped the sweep; the jobs that ran have written checkpoints.
            ConfigError, SweepError: the launcher refuses to begin.
        """
        left, same = distinct([job for job in planned if job.outcome is None])
        if left:
            self.launcher.prepare([job.spec for job in left])
        self.jobs += planned
        self.folder.add({job.spec.path.name: job.overrides for job in planned})
        told = False
        with heeding() as stop, SweepProgress(self.folder.path.name, planned) as display, stop.patiently():
            for ended in self.launcher.run([job.spec for job in left]) if left else ():
                if ended is not None:
                    number, outcome = ended
                    left[number].outcome = outcome
                    display.ended(left[number])
                display.refresh()
                if stop.asked is not None and not told:
                    told = True
                    self.launcher.stop()
        for job, first in same:
            job.outcome = first.outcome

    def show(self) -> None:
        """Prints a table of the jobs."""
        show_sweep(self.folder.path, self.jobs)

    def check_all_done(self) -> None:
        """Raises what became of the jobs that are not done.

        Raises:
            SweepError: says how many, and what to do.
        """
        bad = [job for job in self.jobs if job.outcome is None or job.outcome.state != "done"]
        if bad:
            raise SweepError(f"{len(bad)} of {len(self.jobs)} jobs are not done; the same line again does what is left")


current: ContextVar[Sweep | None] = ContextVar("sweep", default=None)


def launch_batch(
    config: DictConfig,
    hydra_context: Any,
    jobs: str,
    options: Mapping[str, Any],
    job_overrides: Sequence[Sequence[str]],
    initial_job_idx: int,
) -> list[JobReturn]:
    """What Hydra calls, by `hydra_plugins.vaelab.SweepLauncher`, for each batch of its sweeper."""
    path = Path(str(config.hydra.sweep.dir)).absolute()
    redact_file(path / "multirun.yaml")
    sweep = current.get()
    try:
        if sweep is None or sweep.folder.path != path:
            sweep = Sweep(SweepFolder(path), make_launcher(jobs, options))
            current.set(sweep)
        planned = [plan(config, hydra_context, path, line, initial_job_idx + i) for i, line in enumerate(job_overrides)]
        sweep.launch(planned)
    except Exception:
        remove_if_refused(path)
        raise
    return [returned(job) for job in planned]


def make_launcher(jobs: str, options: Mapping[str, Any]) -> JobsLauncher:
    """The launcher that `hydra/launcher=` chooses.

    Raises:
        ConfigError: its package is not there, or it does not take these options.
    """
    given = {name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in options.items()}
    try:
        launcher = get_class(jobs)
        known = inspect.signature(launcher).parameters
        if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in known.values()):
            for name in sorted(given.keys() - known.keys()):
                raise ConfigError(f"hydra.launcher has no {name}: it takes {', '.join(known)}")
        return cast(JobsLauncher, launcher(**given))
    except TypeError as error:
        raise ConfigError(f"{error} (in the configuration of hydra.launcher)") from error
    except Exception as error:
        missing = getattr(error.__cause__ or error, "name", None) or getattr(error, "name", None)
        if missing in NEEDS:
            raise ConfigError(
                f"this launcher needs the package {missing}, which is not installed: "
                f"type pip install 'vaelab[{missing}]'"
            ) from error
        raise


def plan(config: DictConfig, hydra_context: Any, sweep: Path, overrides: Sequence[str], number: int) -> Planned:
    """Composes a job as Hydra's own launchers do, and looks whether it is done."""
    composed = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    former = HydraConfig.instance().cfg
    try:
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)  # for interpolations that ask it
        path = sweep / str(composed.hydra.sweep.subdir)
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = str(path)
        HydraConfig.instance().set_config(composed)
        environment = {str(name): str(value) for name, value in composed.hydra.job.env_set.items()}
        spec = JobSpec(contents(composed), path, path.parent.name, Path.cwd(), environment)
        cfg = spec.cfg
        check_complete(cfg)  # here, and not in each job
        check(composed)
    finally:
        HydraConfig.instance().cfg = former
    overrides = [str(override) for override in composed.hydra.overrides.task]
    typed = [str(override) for override in config.hydra.overrides.task]
    swept = swept_keys(typed) | set(config.hydra.sweeper.get("params") or {})
    label = " ".join(o for o in overrides if o.lstrip("+~").split("=")[0] in swept) or path.name
    return Planned(spec, overrides, composed, label, outcome_before(cfg, path))


def distinct(planned: Sequence[Planned]) -> tuple[list[Planned], list[tuple[Planned, Planned]]]:
    """The jobs without those that are the same run as an earlier one; and those, each with that one."""
    first: dict[Path, Planned] = {}
    same = [(job, first[job.spec.path]) for job in planned if first.setdefault(job.spec.path, job) is not job]
    for job, former in same:
        line, other = " ".join(job.overrides), " ".join(former.overrides)
        log.warning("two jobs of the sweep are one run, which is done once: %s; %s", other, line)
    return list(first.values()), same


def returned(planned: Planned) -> JobReturn:
    """What Hydra's sweepers want to know of a job."""
    outcome = planned.outcome or Outcome("interrupted")
    good = outcome.value is not None and math.isfinite(outcome.value)
    # Hydra's own sweeper makes nothing of values, but would launch no more batches after a failed job
    basic = issubclass(get_class(planned.composed.hydra.sweeper._target_), BasicSweeper)
    result = JobReturn() if good or basic else Failed()
    result.overrides, result.working_dir = planned.overrides, os.getcwd()
    result.cfg = planned.composed
    result.hydra_cfg = OmegaConf.create({"hydra": planned.composed.hydra})
    result.status = JobStatus.FAILED if isinstance(result, Failed) else JobStatus.COMPLETED
    result.return_value = outcome.value
    if isinstance(result, Failed):
        result.error = JobError(f"{planned.spec.path.name}: {outcome.error or f'the bound is {outcome.value}'}")
    return result


def concluding(main: Callable[[], Any]) -> Callable[[], None]:
    """Runs a `hydra.main` function; if it launched a sweep, its table follows, however it ended."""

    @functools.wraps(main)
    def wrapped() -> None:
        token = current.set(None)
        try:
            _concluded(main)
        finally:
            current.reset(token)

    return wrapped


def _concluded(main: Callable[[], Any]) -> None:
    try:
        main()
    except (Exception, Interrupted) as error:
        if (sweep := current.get()) is not None and sweep.jobs:
            sweep.show()
            if isinstance(error, JobError):
                sweep.check_all_done()  # which speaks of all
        raise
    if (sweep := current.get()) is not None:
        sweep.show()
        sweep.check_all_done()
