"""Build a sweep's W&B dashboards, a workspace and a report, from the folders of its jobs.

Only `save` contacts W&B. Each decoder has its colour. Estimates of log p(x) under different protocols (a mass of binary
pixels, a density of dequantised ones, another data set) never share a panel, because they cannot be compared: see
`wandb_runs.within`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
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
LONGEST_TITLE = 128  # characters, the most that W&B accepts
WHOLE_ROW = 24  # columns of a report


@dataclass(frozen=True)
class LoggedSweep:
    """A sweep whose jobs logged to W&B.

    Attributes:
        group: the name of the sweep in W&B.
        jobs: the jobs that have a W&B run.
    """

    group: str
    entity: str
    project: str
    jobs: Sequence[Job]

    @classmethod
    def read(cls, path: Path, group: str | None = None, **place: str | None) -> "LoggedSweep":
        """Read a sweep's folder.

        Args:
            path: the folder.
            group: None for the folder's name.
            place: `entity` and `project`; None for those that the jobs logged to.

        Raises:
            RunFolderError: no job has a W&B run, or the jobs logged to several entities or projects.
        """
        jobs = [job for job in SweepFolder(path).jobs() if "run_id" in job.status and logs_to_wandb(job.config)]
        if not jobs:
            raise RunFolderError(
                f"{path} has no job with a W&B run: type sweep=logs/sweeps/NAME of a sweep trained with logger=wandb"
            )
        chosen = {}
        for name in ("entity", "project"):
            logged = {at(job.config, f"runtime.logger.{name}") or "" for job in jobs}
            given = place.get(name)
            if given is None and len(logged) > 1:
                listed = ", ".join(sorted(filter(None, logged)))
                raise RunFolderError(f"{path} has jobs in more than one {name} of W&B ({listed}): type {name}=")
            chosen[name] = logged.pop() if given is None else given
        return cls(group or path.resolve().name, jobs=jobs, **chosen)

    @cached_property
    def title(self) -> str:
        """The title of the dashboards, in plain ASCII because W&B refuses emoji and mistakes other signs for them."""
        return re.sub(r"[^\w. -]", "_", f"sweep {self.group}", flags=re.ASCII)[:LONGEST_TITLE]

    @cached_property
    def decoders(self) -> list[str]:
        """The names of the decoders, in the order of the jobs."""
        return list(dict.fromkeys(decoder_of(job.config) for job in self.jobs))

    @cached_property
    def colours(self) -> dict[str, str]:
        """W&B's id of a run → the colour of its decoder."""
        colours = dict(zip(self.decoders, cycle(COLOURS)))
        return {job.status["run_id"]: colours[decoder_of(job.config)] for job in self.jobs}

    @cached_property
    def protocols(self) -> dict[str, list[Job]]:
        """Protocol → its finished jobs; see `vaelab.runs.tracking.wandb_runs.protocol_of`."""
        protocols: dict[str, list[Job]] = {}
        for job in self.jobs:
            protocol = protocol_of(job.record, job.config)
            if protocol is not None and job.metrics:
                protocols.setdefault(protocol, []).append(job)
        return protocols

    @cached_property
    def figures(self) -> list[str]:
        """The names of the figures that the jobs logged."""
        return sorted({f"figures/{file.stem}" for job in self.jobs for file in job.path.glob("figures/*.png")})


def workspace(sweep: LoggedSweep) -> ws.Workspace:
    """Return a workspace of the sweep's runs only: curves, log p(x) by protocol, and pictures."""
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
    """Return a report on the sweep: for each protocol its runs with their curves, then the pictures of all runs."""
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
    """Return the panels of a report, for the runs of the sweep that pass the filters."""
    runs = wr.Runset(
        name=name,
        filters=ws.And(of_sweep(sweep), *filters),
        run_settings={run: wr.RunSettings(color=colour) for run, colour in sweep.colours.items()},
    )
    return wr.PanelGrid(runsets=[runs], panels=panels)


def of_sweep(sweep: LoggedSweep) -> ws.FilterExpr:
    """Filter the runs of the sweep: by group, or by run id if W&B's package cannot quote the group's name."""
    if re.fullmatch(r"[\w. -]+", sweep.group, re.ASCII):
        return ws.Metric("Group") == sweep.group
    return ws.Metric("ID").isin(list(sweep.colours))


def curves(sweep: LoggedSweep) -> list[Any]:
    """Plot the validation bound over training, for each run and as the mean over each decoder's runs."""
    bound = {"x": "samples_seen", "y": ["val/elbo"], "title_x": "training examples seen", "title_y": "nats per example"}
    mean = {"groupby": wr.Config(DECODER), "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    return [
        wr.LinePlot(title="validation bound", max_runs_to_show=most_runs(sweep), **bound),
        wr.LinePlot(title="validation bound, mean and range of each decoder", **bound, **mean),
    ]


def likelihoods(protocol: str, jobs: Sequence[Job]) -> list[Any]:
    """Plot the estimates of log p(x) against `latent_dim` and as a bar for each run."""
    panels = []
    for metric in estimates(jobs):
        name = within(protocol, metric)
        legend = f"${{run:displayName}} ${{config:{DECODER}}}"
        scatter = {"x": wr.Config("latent_dim"), "y": wr.SummaryMetric(name), "legend_template": legend}
        panels.append(wr.ScatterPlot(title=f"{metric} against latent_dim, in nats", **scatter))
        panels.append(wr.BarPlot(title=f"{metric}, in nats", metrics=[name], max_bars_to_show=MOST_RUNS))
    return panels


def coordinates(protocol: str, jobs: Sequence[Job]) -> wr.ParallelCoordinatesPlot:
    """Plot settings and results in parallel coordinates."""
    settings = [wr.Config(name) for name in ("latent_dim", "seed", DECODER)]
    common = set.intersection(*(set(job.metrics) for job in jobs))
    results = [within(protocol, metric) for metric in estimates(jobs)]
    results += [name for name in ("test/kl", "test/active_units") if name in common]
    columns = [*settings, *map(wr.SummaryMetric, results)]
    return wr.ParallelCoordinatesPlot(
        title="choices and results",
        columns=[wr.ParallelCoordinatesPlotColumn(metric=column) for column in columns],
        layout=wr.Layout(w=WHOLE_ROW, h=10),
    )


def pictures(sweep: LoggedSweep) -> list[Any]:
    """Show each kind of figure for all runs."""
    return [
        wr.MediaBrowser(
            title=name.removeprefix("figures/"), media_keys=[name], num_columns=4, layout=wr.Layout(w=WHOLE_ROW, h=10)
        )
        for name in sweep.figures
    ]


def estimates(jobs: Sequence[Job]) -> list[str]:
    """Return the names of the estimates of log p(x) that any job has."""
    return sorted({name for job in jobs for name in job.metrics if is_log_likelihood(name)})


def most_runs(sweep: LoggedSweep) -> int:
    """Return the number of runs that a panel shows, because W&B's default of 10 would hide most sweeps' runs."""
    return min(max(len(sweep.jobs), 10), MOST_RUNS)


def specification(dashboard: ws.Workspace | wr.Report) -> dict[str, Any]:
    """Return a dashboard as the plain data that is sent to W&B."""
    return dashboard._to_model().model_dump(mode="json", by_alias=True, exclude_none=True)


def save(workspace: ws.Workspace, report: wr.Report) -> list[str]:
    """Save both dashboards to W&B as new ones, and return their addresses.

    Raises:
        ConnectionError: W&B is unreachable, or refuses.
    """
    import wandb

    try:
        if not workspace.entity:
            workspace.entity = report.entity = wandb.Api().default_entity or ""
        return [workspace.save().url, report.save().url]
    except Exception as error:  # the network, W&B and its package raise many kinds
        raise ConnectionError(f"W&B did not take the dashboards: {' '.join(str(error).split())}") from error
