"""The report in W&B: a run of its own in the sweep's group, with the table of jobs and the best of each group."""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from vaelab.errors import RunFolderError
from vaelab.reporting.gathering import Report, jobs_of
from vaelab.reporting.table import Row
from vaelab.runs.folder.contents import read_config
from vaelab.runs.folder.identity import flatten
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.tracking import loggers
from vaelab.runs.tracking.wandb_runs import logs_to_wandb


def log_report(folder: Path, report: Report, mode: str) -> None:
    """Sends the report to where the sweep's runs are, if W&B knows any of them.

    Args:
        folder: the sweep's.
        mode: `offline`, `online` or `disabled`.
    """
    if mode == "disabled" or (folder / "wandb").is_symlink():
        return
    node = logger_of(folder)
    if node is None:
        return
    place = {name: node[name] for name in ("project", "entity") if isinstance(node.get(name), str)}
    config = {"sweep": report.name, "jobs": report.counts}
    run = RunFolder(folder, config)  # as the logger asks for; nothing of a run is there, or written
    run.status["run_id"] = secrets.token_hex(4)
    kwargs: dict[str, Any] = {"project": "vaelab", "name": f"{report.name}-report", "job_type": "report"} | place
    with loggers.closing(loggers.wandb(run, report.name, mode=mode, **kwargs)) as logger:
        assert isinstance(logger, WandbLogger)
        columns, data = as_columns(report.rows)
        logger.log_table("jobs", columns=columns, data=data)
        logger.experiment.summary.update(summary_of(report))


def logger_of(folder: Path) -> Mapping[str, Any] | None:
    """The stored logger of the first job that has W&B's."""
    for job in jobs_of(folder):
        try:
            config = read_config(job.path)
        except RunFolderError:
            continue
        if logs_to_wandb(config):
            return config["runtime"]["logger"]
    return None


def summary_of(report: Report) -> dict[str, Any]:
    """Flat: how many jobs are in each state, and the best of each group."""
    best = {}
    for group in report.groups:
        first = group.ranked[0]
        told = {"title": group.title, "job": first.entry.name, "jobs": len(group.ranked)}
        best[f"group_{group.number}"] = told | first.result.numbers
    return flatten({"jobs": report.counts, "seconds": report.seconds, "best": best})


def as_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """A table whose columns are of one kind each, as W&B wants them: numbers, or texts."""
    columns = list(rows[0])
    numeric = {c for c in columns if all(r[c] is None or type(r[c]) in (int, float) for r in rows)}

    def cell(row: Row, column: str) -> Any:
        value = row[column]
        return value if value is None or column in numeric else str(value)

    return columns, [[cell(row, column) for column in columns] for row in rows]
