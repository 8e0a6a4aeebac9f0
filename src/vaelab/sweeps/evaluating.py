"""Evaluate all finished runs of a sweep, each in a process of its own.

The sweep's folder may be untrusted: see `vaelab.runs.evaluating.reopen`.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table
from rich.text import Text

from hydra_plugins.vaelab import ours
from vaelab.errors import RunFolderError, SweepError
from vaelab.evaluation.trust import is_poor
from vaelab.runs.configuration import contents
from vaelab.runs.evaluating.complete import Evaluated, complete_evaluation
from vaelab.runs.evaluating.fitted_prior import described
from vaelab.runs.folder.identity import digest
from vaelab.runs.folder.run_folder import OUTPUT
from vaelab.security.allow_list import trusted_packages
from vaelab.security.redaction import presentable
from vaelab.security.untrusted import opened
from vaelab.signals import Stop
from vaelab.sweeps.folder import Job, SweepFolder
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.launchers.base import JobsLauncher, prepare, run_jobs
from vaelab.sweeps.progress import SweepProgress, show_failures
from vaelab.training.in_notebook import text_console


@dataclass(eq=False)
class EvaluationJob(JobSpec):
    """Evaluates the finished run in `path`. The run folder keeps the results, and never the outcome of the job."""

    @property
    def name(self) -> str:
        return f"{self.path.name}-{digest(json.dumps(self.config, sort_keys=True, default=str))}"

    @property
    def place(self) -> Path:
        return self.cwd  # not the sweep's folder, because a launcher unpickles its own files

    @property
    def metric(self) -> str:
        return f"{self.config['split']}/elbo"

    def work(self, stop: Stop) -> Outcome:
        metrics = complete_evaluation(self.cfg)
        return Outcome("done", metrics.get("elbo"), metrics=metrics)

    def record(self, outcome: Outcome) -> Outcome:
        return outcome


def launch_evaluations(cfg: DictConfig, only: Mapping[Path, Sequence[str]] | None = None) -> dict[Path, Evaluated]:
    """Call `evaluate_sweep` with the launcher and the environment of Hydra's configuration."""
    hydra = HydraConfig.get()
    return evaluate_sweep(cfg, ours(instantiate(hydra.launcher)).make(), hydra.job.env_set, only)


def evaluate_sweep(
    cfg: DictConfig,
    launcher: JobsLauncher,
    environment: Mapping[str, str],
    only: Mapping[Path, Sequence[str]] | None = None,
) -> dict[Path, Evaluated]:
    """Complete the evaluation of each finished run of the sweep `cfg.runtime.sweep`, and show a table of them.

    Args:
        cfg: the configuration of `vaelab.evaluate`.
        launcher: runs the evaluations.
        environment: environment variables of their processes.
        only: the folders of the runs to evaluate, each with the packages that it may use; None for all finished runs.

    Returns:
        What `complete_evaluation` returned, by run folder.

    Raises:
        RunFolderError: the folder is no sweep's, or has no finished run; or `only` names a folder without one.
        SweepError: some evaluations are not done.
        Interrupted: a signal stopped the evaluations; each has kept its results.
    """
    trusted_packages(cfg.trust)
    folder = Path(cfg.runtime.sweep)
    found = [job for job in SweepFolder(folder).jobs() if only is None or job.path.absolute() in only]
    states = {job: _state(job) for job in found}
    finished = [job for job, state in states.items() if state == "done"]
    if not finished and only is None:
        raise RunFolderError(f"{folder} has no finished runs to evaluate: give sweep=logs/sweeps/NAME")
    if others := (only or {}).keys() - {job.path.absolute() for job in finished}:
        instead = "train it to the end, or give the folder that it is in"
        raise RunFolderError(f"{min(others)} is no finished run in {folder}: {instead}")
    jobs = planned(cfg, finished, environment, only or {})
    left = [job for job in jobs if job.outcome is None]
    prepare(left, launcher)
    try:
        run_jobs(left, launcher, SweepProgress(presentable(folder.resolve().name), jobs))
    finally:
        show_evaluations(folder, jobs)
        if others := Counter(state for state in states.values() if state != "done"):
            listed = ", ".join(f"{count} {state}" for state, count in others.items())
            print(f"left out, because they are not trained to the end: {listed}")
    if bad := sum(job.state != "done" for job in jobs):
        raise SweepError(f"{bad} of {len(jobs)} evaluations are not done; type the same command to go on")
    return {job.path: cast(Evaluated, job.outcome.metrics) for job in jobs if job.outcome}


def planned(
    cfg: DictConfig, finished: Sequence[Job], environment: Mapping[str, str], trusted: Mapping[Path, Sequence[str]]
) -> list[EvaluationJob]:
    """Return the evaluation of each run; refuse one whose output would go through a link out of its folder.

    `trusted` are the packages of each run, if not those that `cfg` names.
    """
    common = set.intersection(*(set(job.overrides) for job in finished))
    shared, own = contents(cfg), {str(name): str(value) for name, value in environment.items()}
    shared["runtime"]["sweep"] = ""
    jobs = []
    for job in finished:
        label = presentable(" ".join(o for o in job.overrides if o not in common) or job.name)
        path = job.path.absolute()
        config = shared | {"run_dir": str(path)} | ({"trust": [*trusted[path]]} if path in trusted else {})
        outcome = None
        with suppress(FileNotFoundError):
            try:
                opened(job.path / OUTPUT).close()
            except RunFolderError as error:
                outcome = Outcome("failed", error=str(error))
        jobs.append(EvaluationJob(config, path, Path.cwd(), own, label, outcome))
    return jobs


def show_evaluations(folder: Path, jobs: Sequence[EvaluationJob]) -> None:
    """Print a table of the evaluations, and why some are not done."""
    names = [name for job in jobs if job.outcome for name in job.outcome.metrics if name.endswith("log_likelihood")]
    scores = ["elbo", *dict.fromkeys(names)]
    config = jobs[0].config
    first = "" if config["limit"] is None else f", first {config['limit']:,} examples"
    title = f"sweep {folder.resolve().name}: {config['split']} split{first}, {config['checkpoint']} weights"
    title += f", fitted prior {described(config['prior'])}" if config.get("prior") else ""
    caption = "+-: standard error over examples and draws; bound: only a lower bound"
    table = Table("job", "state", title=Text(presentable(title)), caption=caption)
    table.title_justify = table.caption_justify = "left"
    for score in scores:
        estimator = score.rpartition("/")[0]
        label = "ELBO" if score == "elbo" else ", ".join(filter(None, ["log p(x)", estimator]))
        for header in (label, "+-"):
            table.add_column(header, justify="right")
    for job in jobs:
        metrics = job.outcome.metrics if job.outcome else {}
        numbers = [text for score in scores for text in _with_error(metrics, score)]
        table.add_row(Text(job.label), job.state or "not done", *numbers)
    console = text_console()
    options = console.options.update(max_width=10_000)
    # a terminal wraps a wide table, and rich would cut its numbers
    console.print(table, width=max(console.width, table.__rich_measure__(console, options).minimum))
    show_failures(console, jobs)
    path = os.path.relpath(folder)
    closing = "in each run folder, evaluation.json says how far its numbers can be trusted\n"
    closing += f"report: python -m vaelab.report sweep={path}"
    console.print(closing, highlight=False, soft_wrap=True, markup=False)


def _with_error(metrics: Mapping[str, float], score: str) -> tuple[str, str]:
    """Return a score and its standard error as text, empty if it has none; "bound" stands for the error of a bound."""
    prefix, _, name = score.rpartition("/")
    own = {key.removeprefix(f"{prefix}/"): value for key, value in metrics.items()} if prefix else metrics
    error = "sampling_error" if name == "elbo" else f"{name}_sampling_error"
    value, spread = (f"{own[key]:.3f}" if key in own else "" for key in (name, error))
    return value, "bound" if name != "elbo" and is_poor(own) else spread


def _state(job: Job) -> str:
    try:
        return presentable(job.state)
    except RunFolderError:
        return "damaged"
