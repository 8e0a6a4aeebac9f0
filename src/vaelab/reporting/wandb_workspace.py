"""Build a sweep's W&B dashboards, a workspace and a report, from the folders of its jobs.

Only `save` contacts W&B. Runs are coloured by decoder. Estimates of log p(x) under different protocols, such as a mass
of binary pixels and a density of dequantised ones, never share a panel, because they cannot be compared: see
`wandb_runs.within`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import name_of
from vaelab.reporting.gathering import jobs_of
from vaelab.reporting.reading import read
from vaelab.runs.tracking.wandb_options import fitting
from vaelab.runs.tracking.wandb_runs import DECODER, ESTIMATE, at, decoder_of, logs_to_wandb, second_name
from vaelab.sweeps.folder import Job

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")  # Tableau's
MOST_RUNS = 100  # in one panel; W&B's default of 10 would hide most sweeps' runs


class Protocol(NamedTuple):
    """A number that W&B has under one name, because it may be compared, and the jobs that have it."""

    metric: str
    jobs: list[Job]


@dataclass(frozen=True)
class LoggedSweep:
    """A sweep whose jobs logged to W&B."""

    group: str  # the name of the sweep in W&B
    entity: str
    project: str
    jobs: Sequence[Job]  # the jobs that have a W&B run

    @classmethod
    def read(cls, path: Path, **place: str | None) -> "LoggedSweep":
        """Read a sweep's folder.

        Args:
            place: `group`, `entity` and `project` in W&B; an empty one is read from the jobs.

        Raises:
            RunFolderError: see `jobs_of`; or no job has a W&B run, or the jobs logged to several places.
        """
        jobs = [job for job in jobs_of(path) if "run_id" in job.status and logs_to_wandb(job.config)]
        if not jobs:
            raise RunFolderError(
                f"{path} has no job with a W&B run: type sweep=logs/sweeps/NAME of a sweep trained with logger=wandb"
            )
        chosen = {}
        for name, given in place.items():
            logged = sorted({str(at(job.config, f"runtime.logger.{name}") or "") for job in jobs})
            if not given and len(logged) > 1:
                listed = ", ".join(filter(None, logged))
                raise RunFolderError(f"{path} has jobs in more than one {name} of W&B ({listed}): type {name}=")
            chosen[name] = given or logged[0]
        group = chosen.pop("group") or path.resolve().name
        return cls(fitting(group), jobs=jobs, **chosen)

    @property
    def title(self) -> str:
        """The title of the dashboards, no longer than W&B accepts."""
        return fitting(f"sweep {self.group}")

    @property
    def decoders(self) -> list[str]:
        """The names of the decoders, in the order of the jobs."""
        return list(dict.fromkeys(decoder_of(job.config) for job in self.jobs))

    @cached_property
    def protocols(self) -> dict[str, Protocol]:
        """Name of a comparability key → that key's number in W&B, and the finished jobs that have it."""
        protocols: dict[str, Protocol] = {}
        for job in self.jobs:
            for result in read(job).results:
                if result.source == "metrics.json" and ESTIMATE in result.numbers:
                    found = protocols.setdefault(name_of(result.key), Protocol(second_name(result.key), []))
                    found.jobs.append(job)
        return protocols

    def runs(self, *filters: ws.FilterExpr) -> dict[str, Any]:
        """Return arguments that choose the sweep's runs that pass the filters, each in the colour of its decoder."""
        colours = dict(zip(self.decoders, cycle(COLOURS)))
        settings = {job.status["run_id"]: {"color": colours[decoder_of(job.config)]} for job in self.jobs}
        of_sweep = ws.Metric("Group") == self.group
        if not re.fullmatch(r"[\w. -]+", self.group, flags=re.ASCII):  # other characters are syntax in W&B's filters
            of_sweep = ws.Metric("ID").isin(list(settings))
        return {"filters": ws.And(of_sweep, *filters), "run_settings": settings}


def workspace(sweep: LoggedSweep) -> ws.Workspace:
    """Return a workspace that shows only the sweep's runs: curves, log p(x) for each protocol, and pictures."""
    of_results = {f"log p(x): {name}": results(protocol) for name, protocol in sweep.protocols.items()}
    panels = {"curves": curves(), **of_results, "pictures": pictures(sweep)}
    return ws.Workspace(
        entity=sweep.entity,
        project=sweep.project,
        name=sweep.title,
        sections=[ws.Section(name=name, panels=own, is_open=True) for name, own in panels.items() if own],
        settings=ws.WorkspaceSettings(x_axis="samples_seen", max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(**sweep.runs()),
    )


def report(sweep: LoggedSweep) -> wr.Report:
    """Return a report on the sweep: for each protocol, its runs with curves and results; then pictures of all runs."""
    blocks: list[Any] = [
        wr.P(f"{len(sweep.jobs)} runs of the sweep {sweep.group}; decoders: {', '.join(sweep.decoders)}."),
        wr.P("Nats per example, higher is better. Compare numbers only within a section."),
    ]
    sections = [(name, own.jobs, [*curves(), *results(own)]) for name, own in sweep.protocols.items()]
    for name, jobs, panels in [*sections, ("pictures", sweep.jobs, pictures(sweep))]:
        ids = [job.status["run_id"] for job in jobs]
        runs = wr.Runset(name=name, **sweep.runs(ws.Metric("ID").isin(ids)))
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)] if panels else []
    return wr.Report(entity=sweep.entity, project=sweep.project, title=sweep.title, blocks=blocks, width="fluid")


def curves() -> list[Any]:
    """Plot the validation bound over training, for each run and as the mean over each decoder's runs."""
    bound = {"x": "samples_seen", "y": ["val/elbo"], "title_x": "training examples seen", "title_y": "nats per example"}
    mean = {"groupby": wr.Config(DECODER), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return [
        wr.LinePlot(title="validation bound", max_runs_to_show=MOST_RUNS, **bound),
        wr.LinePlot(title="validation bound, mean and range of each decoder", **bound, **mean),
    ]


def results(protocol: Protocol) -> list[Any]:
    """Plot log p(x) against `latent_dim` and as bars; plot settings and results as parallel coordinates."""
    metric, jobs = protocol
    legend = f"${{run:displayName}} ${{config:{DECODER}}}"
    scatter = {"x": wr.Config("latent_dim"), "y": wr.SummaryMetric(metric), "legend_template": legend}
    common = [name for name in ("test/kl", "test/active_units") if all(name in job.metrics for job in jobs)]
    settings, found = map(wr.Config, ("latent_dim", "seed", DECODER)), map(wr.SummaryMetric, [metric, *common])
    columns = [wr.ParallelCoordinatesPlotColumn(metric=column) for column in (*settings, *found)]
    return [
        wr.ScatterPlot(title="log p(x) against latent_dim, in nats", **scatter),
        wr.BarPlot(title="log p(x), in nats", metrics=[metric], max_bars_to_show=MOST_RUNS),
        wr.ParallelCoordinatesPlot(title="choices and results", columns=columns, layout=whole_row()),
    ]


def pictures(sweep: LoggedSweep) -> list[Any]:
    """Show each kind of figure that the jobs logged, for all runs."""
    kinds = sorted({file.stem for job in sweep.jobs for file in job.path.glob("figures/*.png")})
    return [
        wr.MediaBrowser(title=kind, media_keys=[f"figures/{kind}"], num_columns=4, layout=whole_row()) for kind in kinds
    ]


def whole_row() -> wr.Layout:
    """Return a new layout of all 24 columns of a report, because W&B's package changes the layouts that it gets."""
    return wr.Layout(w=24, h=10)


def specification(dashboard: ws.Workspace | wr.Report) -> dict[str, Any]:
    """Return a dashboard as the plain data that is sent to W&B."""
    return dashboard._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def save(workspace: ws.Workspace, report: wr.Report) -> list[str]:
    """Save both dashboards to W&B as new ones, and return their addresses.

    Raises:
        ConnectionError: W&B is unreachable, or refuses the dashboards.
    """
    import wandb

    try:
        if not workspace.entity:
            workspace.entity = report.entity = wandb.Api().default_entity or ""
        return [workspace.save().url, report.save().url]
    except Exception as error:  # the network, W&B and its package raise errors of many kinds
        raise ConnectionError(f"W&B did not save the dashboards: {' '.join(str(error).split())}") from error
