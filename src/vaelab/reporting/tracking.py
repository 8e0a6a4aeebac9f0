"""Log the report to W&B, as a run in the sweep's group with the table of jobs and the best job of each group."""

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
    """Log the report to the W&B project of the sweep's runs, unless no run logs to W&B.

    Args:
        folder: of the sweep.
        mode: `offline`, `online` or `disabled`.
    """
    if mode == "disabled" or (folder / "wandb").is_symlink():
        return
    node = logger_of(folder)
    if node is None:
        return
    place = {name: node[name] for name in ("project", "entity") if isinstance(node.get(name), str)}
    config = {"sweep": report.name, "jobs": report.counts}
    run = RunFolder(folder, config)  # because the logger asks for one; nothing of a run is written
    run.status["run_id"] = secrets.token_hex(4)
    kwargs: dict[str, Any] = {"project": "vaelab", "name": f"{report.name}-report", "job_type": "report"} | place
    with loggers.closing(loggers.wandb(run, report.name, mode=mode, **kwargs)) as logger:
        assert isinstance(logger, WandbLogger)
        columns, data = as_columns(report.rows)
        logger.log_table("jobs", columns=columns, data=data)
        logger.experiment.summary.update(summary_of(report))


def logger_of(folder: Path) -> Mapping[str, Any] | None:
    """Return the logger's configuration of the first job that logs to W&B."""
    for job in jobs_of(folder):
        try:
            config = read_config(job.path)
        except RunFolderError:
            continue
        if logs_to_wandb(config):
            return config["runtime"]["logger"]
    return None


def summary_of(report: Report) -> dict[str, Any]:
    """Return the counts of jobs by state and the best job of each group, by dotted keys."""
    best = {}
    for group in report.groups:
        first = group.ranked[0]
        header = {"title": group.title, "job": first.entry.name, "jobs": len(group.ranked)}
        best[f"group_{group.number}"] = header | first.result.numbers
    return flatten({"jobs": report.counts, "seconds": report.seconds, "best": best})


def as_columns(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and cells in which each column holds only numbers or only text, because W&B requires it."""
    columns = list(rows[0])
    numeric = {c for c in columns if all(r[c] is None or type(r[c]) in (int, float) for r in rows)}

    def cell(row: Row, column: str) -> Any:
        value = row[column]
        return value if value is None or column in numeric else str(value)

    return columns, [[cell(row, column) for column in columns] for row in rows]
