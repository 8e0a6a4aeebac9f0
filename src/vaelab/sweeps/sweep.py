"""Run a sweep: plan its jobs, pass over those that are done, launch the others, and tell what became of each."""

import inspect
import logging
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vaelab.errors import ConfigError, RunFolderError, SweepError
from vaelab.runs.complete import value_of
from vaelab.runs.configuration import contents, plain
from vaelab.runs.folder.names import swept_keys
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.processes.seeds import Member, members_of, over_seeds
from vaelab.runs.validate import check, check_complete
from vaelab.signals import heeding
from vaelab.sweeps.folder import Job, SweepFolder
from vaelab.sweeps.job import JobSpec, Outcome, Planned
from vaelab.sweeps.launchers.base import JobsLauncher
from vaelab.sweeps.progress import SweepProgress, show_sweep

log = logging.getLogger(__name__)
EXTRAS = ("optuna", "ray", "submitit")  # packages, each an extra of its name


class Sweep:
    """The jobs of one command line, over all batches. Leaving its `with` block prints a table of the jobs.

    Args:
        config: the sweep's configuration, with Hydra's own node.
        loader: Hydra's, which composes the jobs.
        launcher: runs the jobs.

    Raises:
        SweepError: at the end of the block, if a job is not done.
    """

    def __init__(self, config: DictConfig, loader: Any, launcher: JobsLauncher) -> None:
        self.config = config
        self.loader = loader
        self.launcher = launcher
        self.folder = SweepFolder(Path(str(config.hydra.sweep.dir)).absolute())
        self.jobs: list[Planned] = []

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.jobs:
            show_sweep(self.folder.path, self.jobs)
        bad = [job for job in self.jobs if job.outcome is None or job.outcome.state != "done"]
        if bad and kind is None:
            raise SweepError(f"{len(bad)} of {len(self.jobs)} jobs are not done; the same line again does what is left")

    def launch(self, lines: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Run a batch of jobs, without those that are done.

        Args:
            lines: the overrides of each job.
            first: number of the first job.

        Returns:
            Hydra's description of each job. An interrupted job has the status UNKNOWN.

        Raises:
            Interrupted: a signal stopped the sweep; the jobs that ran have written checkpoints.
            ConfigError, SweepError: a job cannot be meant, or the launcher refuses to begin.
        """
        planned = [self.plan(line, first + i) for i, line in enumerate(lines)]
        unique: dict[Path, Planned] = {}
        for job in planned:
            same = unique.setdefault(job.spec.path, job)
            if same is not job and job.outcome is None:
                pair = f"{' '.join(same.overrides)}; {' '.join(job.overrides)}"
                log.warning("two jobs of the sweep are one run, which is done once: %s", pair)
        left = [job for job in unique.values() if job.outcome is None]
        if left:
            self.launcher.prepare([job.spec for job in left])
        self.jobs += planned
        self.folder.add({job.spec.path.name: job.overrides for job in planned})
        self.run(left, SweepProgress(self.folder.path.name, planned))
        for job in planned:
            job.outcome = unique[job.spec.path].outcome
        return [_returned(job) for job in planned]

    def run(self, jobs: Sequence[Planned], display: SweepProgress) -> None:
        """Run jobs until all have ended, or a signal has stopped them."""
        stopping = False
        with heeding() as stop, display, stop.patiently():
            for ended in self.launcher.run([job.spec for job in jobs]) if jobs else ():
                if ended is not None:
                    number, jobs[number].outcome = ended
                    display.ended(jobs[number])
                display.refresh()
                if stop.asked is not None and not stopping:
                    stopping = True
                    self.launcher.stop()

    def plan(self, overrides: Sequence[str], number: int) -> Planned:
        """Compose a job as Hydra's own launchers do, check its configuration, and look whether the job is done."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        former = HydraConfig.instance().cfg
        try:
            with open_dict(composed):
                composed.hydra.job.id = composed.hydra.job.num = number
            HydraConfig.instance().set_config(composed)  # for interpolations that ask it
            path = self.folder.path / str(composed.hydra.sweep.subdir)
            with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
                composed.hydra.runtime.output_dir = str(path)
            HydraConfig.instance().set_config(composed)
            environment = {str(name): str(value) for name, value in composed.hydra.job.env_set.items()}
            spec = JobSpec(contents(composed), path, Path.cwd(), environment)
            cfg = spec.cfg
            check_complete(cfg)
            check(composed)
        finally:
            HydraConfig.instance().cfg = former
        task = [str(override) for override in composed.hydra.overrides.task]
        swept = swept_keys([str(override) for override in self.config.hydra.overrides.task])
        swept |= set(self.config.hydra.sweeper.get("params") or {})
        label = " ".join(override for override in task if override.lstrip("+~").split("=")[0] in swept) or path.name
        return Planned(spec, task, label, outcome_before(cfg, path))


def outcome_before(cfg: DictConfig, path: Path) -> Outcome | None:
    """Return the outcome of a job that needs nothing more: it is done, or it failed and `retry_failed=false`."""
    try:
        members = members_of(cfg, path) if cfg.runtime.seeds > 1 else [Member(cfg, path)]
        folders = [RunFolder(member.path, plain(member.cfg), cfg.runtime.rerun) for member in members]
        if all(folder.finished for folder in folders):
            return Outcome("done", value_of(over_seeds([folder.metrics for folder in folders])))
        failed = [job for folder in folders if (job := Job(folder.path)).state in ("failed", "killed")]
        return Outcome("failed", error=failed[0].error) if failed and not cfg.runtime.retry_failed else None
    except (RunFolderError, ValueError, TypeError, KeyError):  # the job will say what is wrong
        return None


def make_launcher(jobs: str, options: Mapping[str, Any]) -> JobsLauncher:
    """Return the launcher that `hydra/launcher=` chooses; see `call`."""
    given = {name: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for name, v in options.items()}
    try:
        return cast(JobsLauncher, call("hydra.launcher", jobs, given))
    except TypeError as error:
        raise ConfigError(f"{error} (in the configuration of hydra.launcher)") from error


def call(node: str, path: str, options: Mapping[str, Any], *arguments: Any) -> Any:
    """Call the class or function that a node of the configuration names.

    Args:
        node: the node.
        path: of the class or function.
        options: its arguments from the configuration.
        arguments: its first arguments.

    Raises:
        ConfigError: its package is not there, or it does not take these options.
    """
    module, _, name = path.rpartition(".")
    try:
        target = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        raise ConfigError(
            f"{node} needs the package {error.name}, which is not installed: type pip install 'vaelab[{error.name}]'"
        ) from error
    known = list(inspect.signature(target).parameters.values())[len(arguments) :]
    unknown = sorted(options.keys() - {parameter.name for parameter in known})
    if unknown and all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in known):
        raise ConfigError(f"{node} has no {unknown[0]}: it takes {', '.join(parameter.name for parameter in known)}")
    return target(*arguments, **options)


def _returned(job: Planned) -> JobReturn:
    result = JobReturn(overrides=job.overrides)
    if job.outcome is not None and job.outcome.state != "interrupted":
        value, error = job.outcome.value, job.outcome.error
        good = value is not None and math.isfinite(value)
        result.status = JobStatus.COMPLETED if good else JobStatus.FAILED
        result.return_value = value if good else SweepError(error or f"the bound is {value}")
    return result
