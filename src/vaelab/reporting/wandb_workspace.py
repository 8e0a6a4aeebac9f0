"""A sweep's dashboards, as W&B's own specifications: a workspace and a report, made from the folders of its jobs.

Nothing here asks W&B anything. The decoders have a colour each. Estimates of log p(x) of different protocols (a mass of
binary pixels, a density of dequantised ones, another data set) never share a panel: see `wandb_runs.within`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from vaelab.errors import RunFolderError
from vaelab.runs.tracking.wandb_runs import at, decoder_of, is_log_likelihood, logs_to_wandb, protocol_of, within
from vaelab.sweeps.folder import Job, SweepFolder

DECODER = "decoder.head._target_"
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")  # Tableau's
MOST_RUNS = 100  # in one panel
LONGEST_TITLE = 128  # characters; W&B refuses more
WHOLE_ROW = 24  # of a report's columns


@dataclass(frozen=True)
class LoggedSweep:
    """What the panels are made from.

    Attributes:
        group: what W&B calls the sweep.
        jobs: those that have a W&B run.
    """

    group: str
    entity: str
    project: str
    jobs: Sequence[Job]

    @classmethod
    def read(cls, path: Path, group: str | None = None, **place: str | None) -> "LoggedSweep":
        """Reads a sweep's folder.

        Args:
            path: the folder.
            group: None for the folder's name.
            place: `entity` and `project`; None for what the jobs logged to.

        Raises:
            RunFolderError: no job of it has a W&B run, or they are of several entities or projects.
        """
        jobs = [job for job in SweepFolder(path).jobs() if "run_id" in job.status and logs_to_wandb(job.config)]
        if not jobs:
            raise RunFolderError(
                f"{path} has no job that W&B knows: type sweep=logs/sweeps/NAME, of a sweep trained with logger=wandb"
            )
        settled = {}
        for name in ("entity", "project"):
            found = {at(job.config, f"runtime.logger.{name}") or "" for job in jobs}
            given = place.get(name)
            if given is None and len(found) > 1:
                listed = ", ".join(sorted(filter(None, found)))
                raise RunFolderError(f"{path} has jobs in more than one {name} of W&B ({listed}): type {name}=")
            settled[name] = found.pop() if given is None else given
        return cls(group or path.resolve().name, jobs=jobs, **settled)

    @cached_property
    def title(self) -> str:
        """Of its dashboards; W&B refuses pictograms, and takes some signs for them."""
        return re.sub(r"[^\w. -]", "_", f"sweep {self.group}", flags=re.ASCII)[:LONGEST_TITLE]

    @cached_property
    def decoders(self) -> list[str]:
        """Their names, in the order of the jobs."""
        return list(dict.fromkeys(decoder_of(job.config) for job in self.jobs))

    @cached_property
    def colours(self) -> dict[str, str]:
        """W&B's id of a run → the colour of its decoder."""
        places = [self.decoders.index(decoder_of(job.config)) for job in self.jobs]
        return {job.status["run_id"]: COLOURS[i % len(COLOURS)] for job, i in zip(self.jobs, places, strict=True)}

    @cached_property
    def protocols(self) -> dict[str, list[Job]]:
        """Name of what compares → the finished jobs with such; see `vaelab.runs.tracking.wandb_runs.protocol_of`."""
        found: dict[str, list[Job]] = {}
        for job in self.jobs:
            protocol = protocol_of(job.record, job.config)
            if protocol is not None and job.metrics:
                found.setdefault(protocol, []).append(job)
        return found

    @cached_property
    def figures(self) -> list[str]:
        """Names of the pictures that jobs logged."""
        return sorted({f"figures/{file.stem}" for job in self.jobs for file in job.path.glob("figures/*.png")})


def workspace(sweep: LoggedSweep) -> ws.Workspace:
    """A workspace with the runs of the sweep alone: curves, log p(x) by protocol, and pictures."""
    sections = [ws.Section(name="curves", panels=curves(sweep))]
    sections += [
        ws.Section(name=f"log p(x): {protocol}", panels=[*likelihoods(protocol, jobs), coordinates(protocol, jobs)])
        for protocol, jobs in sweep.protocols.items()
    ]
    sections += [ws.Section(name="pictures", panels=pictures(sweep))] if sweep.figures else []
    for section in sections:
        section.is_open = True
    return ws.Workspace(
        entity=sweep.entity,
        project=sweep.project,
        name=sweep.title,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="samples_seen", max_runs=most_runs(sweep)),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(of_sweep(sweep)),
            run_settings={run: ws.RunSettings(color=colour) for run, colour in sweep.colours.items()},
        ),
    )


def report(sweep: LoggedSweep) -> wr.Report:
    """A report on the sweep: for each protocol its own runs, curves included; then pictures of all."""
    blocks: list[Any] = [
        wr.P(f"{len(sweep.jobs)} runs of the sweep {sweep.group}; decoders: {', '.join(sweep.decoders)}."),
        wr.P("Nats per example, higher is better. Numbers compare within a section, never between two."),
    ]
    for protocol, jobs in sweep.protocols.items():
        panels = [*likelihoods(protocol, jobs), *curves(sweep), coordinates(protocol, jobs)]
        ids = [job.status["run_id"] for job in jobs]
        blocks += [wr.H2(protocol), grid(sweep, protocol, panels, ws.Metric("ID").isin(ids))]
    if sweep.figures:
        blocks += [wr.H2("Pictures"), grid(sweep, "all runs", pictures(sweep))]
    return wr.Report(entity=sweep.entity, project=sweep.project, title=sweep.title, blocks=blocks, width="fluid")


def grid(sweep: LoggedSweep, name: str, panels: list[Any], *filters: Any) -> wr.PanelGrid:
    """A report's panels, and the runs of the sweep that they show."""
    runs = wr.Runset(
        name=name,
        filters=ws.And(of_sweep(sweep), *filters),
        run_settings={run: wr.RunSettings(color=colour) for run, colour in sweep.colours.items()},
    )
    return wr.PanelGrid(runsets=[runs], panels=panels)


def of_sweep(sweep: LoggedSweep) -> ws.FilterExpr:
    """Filters the runs of the sweep: by group, or by their ids where the name has what W&B's package stumbles over."""
    if re.fullmatch(r"[\w. -]+", sweep.group, re.ASCII):
        return ws.Metric("Group") == sweep.group
    return ws.Metric("ID").isin(list(sweep.colours))


def curves(sweep: LoggedSweep) -> list[Any]:
    """The validation bound over training: each run in its decoder's colour, and the mean of each decoder's runs."""
    bound = {"x": "samples_seen", "y": ["val/elbo"], "title_x": "training examples seen", "title_y": "nats per example"}
    mean = {"groupby": wr.Config(DECODER), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return [
        wr.LinePlot(title="validation bound", max_runs_to_show=most_runs(sweep), **bound),
        wr.LinePlot(title="validation bound, mean and range of each decoder", **bound, **mean),
    ]


def likelihoods(protocol: str, jobs: Sequence[Job]) -> list[Any]:
    """Estimates of log p(x) against `latent_dim`, and run by run."""
    panels = []
    for metric in estimates(jobs):
        name = within(protocol, metric)
        legend = f"${{run:displayName}} ${{config:{DECODER}}}"
        scatter = {"x": wr.Config("latent_dim"), "y": wr.SummaryMetric(name), "legend_template": legend}
        panels.append(wr.ScatterPlot(title=f"{metric} against latent_dim, in nats", **scatter))
        panels.append(wr.BarPlot(title=f"{metric}, in nats", metrics=[name], max_bars_to_show=MOST_RUNS))
    return panels


def coordinates(protocol: str, jobs: Sequence[Job]) -> wr.ParallelCoordinatesPlot:
    """Parallel coordinates from the choices to what came of them."""
    choices = [wr.Config(name) for name in ("latent_dim", "seed", DECODER)]
    known = set.intersection(*(set(job.metrics) for job in jobs))
    more = [name for name in ("test/kl", "test/active_units") if name in known]
    results = [within(protocol, metric) for metric in estimates(jobs)] + more
    columns = [*choices, *map(wr.SummaryMetric, results)]
    return wr.ParallelCoordinatesPlot(
        title="choices and results",
        columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns],
        layout=wr.Layout(w=WHOLE_ROW, h=10),
    )


def pictures(sweep: LoggedSweep) -> list[Any]:
    """The pictures of each kind, of all runs."""
    return [
        wr.MediaBrowser(
            title=name.removeprefix("figures/"), media_keys=[name], num_columns=4, layout=wr.Layout(w=WHOLE_ROW, h=10)
        )
        for name in sweep.figures
    ]


def estimates(jobs: Sequence[Job]) -> list[str]:
    """Names of the estimates of log p(x) that any of the jobs has."""
    return sorted({name for job in jobs for name in job.metrics if is_log_likelihood(name)})


def most_runs(sweep: LoggedSweep) -> int:
    """How many runs a panel shows: W&B's own limit, 10, is less than most sweeps have."""
    return min(max(len(sweep.jobs), 10), MOST_RUNS)


def specification(dashboard: ws.Workspace | wr.Report) -> dict[str, Any]:
    """What W&B would be sent, as plain data."""
    return dashboard._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def save(workspace: ws.Workspace, report: wr.Report) -> list[str]:
    """Saves both to W&B, as new ones; returns their addresses.

    Raises:
        ConnectionError: W&B could not be reached, or refused.
    """
    import wandb

    try:
        if not workspace.entity:
            workspace.entity = report.entity = wandb.Api().default_entity or ""
        return [workspace.save().url, report.save().url]
    except Exception as error:  # of many kinds: of the network, of W&B, of its package
        raise ConnectionError(f"W&B did not take the dashboards: {' '.join(str(error).split())}") from error
