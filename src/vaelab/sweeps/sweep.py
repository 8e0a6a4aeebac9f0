"""Run a sweep: plan its jobs, skip those that are done, launch the others, and report how each ended."""

import logging
import os
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from vaelab.errors import ConfigError, RunFolderError, SweepError
from vaelab.runs.command_line import COMMAND, hydra_overrides
from vaelab.runs.complete import value_of
from vaelab.runs.configuration import contents, plain
from vaelab.runs.execute import check_finished
from vaelab.runs.folder.contents import read_metrics
from vaelab.runs.folder.identity import identity
from vaelab.runs.folder.names import fixed_settings, key_of, swept_values
from vaelab.runs.keys import check_keys
from vaelab.runs.processes.seeds import members_of, over_seeds
from vaelab.runs.tracking.wandb_options import name_apart
from vaelab.runs.validate import check, check_complete, check_whole
from vaelab.signals import Interrupted
from vaelab.sweeps.folder import Job, SweepFolder
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import JobsLauncher, prepare, run_jobs
from vaelab.sweeps.progress import SweepProgress, show_sweep

log = logging.getLogger(__name__)


class Sweep:
    """The jobs of one command line, over all batches. Leaving its `with` block prints a table of the jobs.

    `config` has Hydra's own node, and `loader` is Hydra's, which composes the jobs.

    Raises:
        SweepError: at the end of the block, if a job is not done.
    """

    def __init__(self, config: DictConfig, loader: Any, launcher: JobsLauncher) -> None:
        self.config = config
        self.loader = loader
        self.launcher = launcher
        self.folder = SweepFolder(Path(str(config.hydra.sweep.dir)).absolute())
        self.jobs: list[JobSpec] = []
        self.records: dict[str, Any] = {}  # of the data of finished jobs
        self.names: list[str] = []  # of the run folders that are there or planned

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if self.jobs:
            show_sweep(self.folder.path, self.jobs)
        bad = [job for job in self.jobs if job.state != "done"]
        left = f"{len(bad)} of {len(self.jobs)} jobs are not done; type the same command to run them"
        if bad and kind is None:
            failure = SweepError(left)
            failure.sweep = self if all(job.state == "failed" for job in bad) else None
            raise failure
        if bad and kind in (Interrupted, KeyboardInterrupt):
            log.warning(left)

    def launch(self, lines: Sequence[Sequence[str]], first: int) -> list[Outcome | None]:
        """Run the jobs of a batch that are not done; return the outcome of each. `lines` are the overrides of each job.

        Raises:
            Interrupted: a signal stopped the sweep; the jobs that ran have written checkpoints.
            ConfigError, SweepError: a job's configuration is invalid, or the launcher refuses the jobs.
        """
        self.names = [job.name for job in self.folder.jobs()]
        planned = [self.plan(line, first + i) for i, line in enumerate(lines)]
        unique: dict[Path, JobSpec] = {}
        for job in planned:
            same = unique.setdefault(job.path, job)
            if same is not job and job.outcome is None:
                pair = f"{' '.join(same.overrides)}; {' '.join(job.overrides)}"
                log.warning("two jobs of the sweep are the same run, which runs once: %s", pair)
        left = [job for job in unique.values() if job.outcome is None]
        prepare(left, self.launcher)
        self.jobs += planned
        self.folder.add({job.path.name: job.overrides for job in planned})
        run_jobs(left, self.launcher, SweepProgress(self.folder.path.name, planned))
        for job in planned:
            job.outcome = unique[job.path].outcome
        return [job.outcome for job in planned]

    def plan(self, overrides: Sequence[str], number: int) -> JobSpec:
        """Compose a job as Hydra's own launchers do, check its configuration, and find out whether it is done."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            composed.hydra.job.id = composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)  # because interpolations read it
        path = self.folder.path / self.name_of(composed)
        with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
            composed.hydra.runtime.output_dir = str(path)
        HydraConfig.instance().set_config(composed)
        if composed.runtime.seeds == 1:
            name_apart(composed, path)
        config = contents(composed)
        cfg = OmegaConf.create(config)
        check_complete(cfg)
        check_keys("train", OmegaConf.masked_copy(composed, list(config)), config)
        check(cfg, several=True)
        environment = {str(name): str(value) for name, value in composed.hydra.job.env_set.items()}
        if line := os.environ.get(COMMAND):
            environment[COMMAND] = line  # a cluster's job has another environment
        task = [str(override) for override in composed.hydra.overrides.task]
        label = " ".join(override for override in task if key_of(override) in self.varied) or path.name
        return JobSpec(config, path, Path.cwd(), environment, label, outcome_before(cfg, path, self.records), task)

    @cached_property
    def varied(self) -> set[str]:
        """The keys that tell the jobs apart."""
        sweeper = self.config.hydra.sweeper
        typed = swept_values([str(override) for override in self.config.hydra.overrides.task])
        listed = {key_of(word) for words in settings_of(sweeper.get("settings")) for word in words}
        return {*typed, *(sweeper.get("params") or {}), *listed}

    def name_of(self, composed: DictConfig) -> str:
        """Return the name of a job's run folder: if the job is there already, typed in other words, that folder's."""
        name, ending = str(composed.hydra.sweep.subdir), f"-{identity(plain(composed))}"
        same = [other for other in self.names if name.endswith(ending) and other.endswith(ending)]
        found = name if name in same or not same else same[0]
        self.names.append(found)
        return found

    def settings(self, overrides: Sequence[str]) -> str | None:
        """Return the identity of the configuration that the overrides make; None if it cannot be resolved."""
        return fixed_settings(self.loader.load_sweep_config(self.config, list(overrides)))


def outcome_before(cfg: DictConfig, path: Path, records: dict[str, Any]) -> Outcome | None:
    """Return the outcome of a job that need not run: it is done, or it failed and `retry_failed=false`."""
    try:
        members = members_of(cfg, path)
        if all(member.finished for member in members):
            for member in members:
                check_finished(member.cfg, member.path, records)
            return Outcome("done", value_of(over_seeds([read_metrics(member.path) for member in members])))
        failed = [job for member in members if (job := Job(member.path)).state in ("failed", "killed")]
        return Outcome("failed", error=failed[0].error) if failed and not cfg.runtime.retry_failed else None
    except (RunFolderError, ValueError, TypeError, KeyError):  # not raised here, because running the job shows it
        return None


def combinations(
    sweep: Sweep,
    overrides: Mapping[str, Override],
    max_batch_size: int | None = None,
    settings: Sequence[str] | None = None,
) -> None:
    """Run a job for each combination of the values, or for each combination with each of the `settings`.

    Args:
        sweep: runs the jobs.
        overrides: those that were typed, by their keys.
        max_batch_size: plan and run so many jobs at a time.
        settings: the overrides of each setting as one text, such as `"objective=iwae latent_dim=5"`.
    """
    if max_batch_size is not None:
        check_whole("hydra.sweeper.max_batch_size", max_batch_size, 1)
    for override in overrides.values():
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} is not a list of values: type hydra/sweeper=optuna to search it")
    if settings and not sweep.config.runtime.sweep.name:
        raise ConfigError("hydra.sweeper.settings makes no name for the sweep's folder: type sweep.name=NAME")
    combined = [job for jobs in BasicSweeper.split_arguments(list(overrides.values()), None) for job in jobs]
    lines = [[*job, *words] for words in settings_of(settings) or [[]] for job in combined]
    size = max_batch_size or len(lines)
    for first in range(0, len(lines), size):
        sweep.launch(lines[first : first + size], first)


def settings_of(settings: Any) -> list[list[str]]:
    """Return the overrides of each setting, as Hydra reads them."""
    try:
        lines = [shlex.split(str(text)) for text in settings or ()]
    except (TypeError, ValueError):  # no list, or an open quote
        lines = [[""]]
    if isinstance(settings, str) or not all("=" in word or word.startswith("~") for line in lines for word in line):
        raise ConfigError(
            f"hydra.sweeper.settings must be a list of texts with overrides, found {settings}: type "
            "\"hydra.sweeper.settings=['latent_dim=5','latent_dim=10 seed=1']\""
        )
    return [hydra_overrides("train", line) for line in lines]
