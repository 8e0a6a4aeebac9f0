"""Log the report to W&B, as a run in the sweep's group with the table of jobs and the best setting of each group."""

import os
from pathlib import Path
from types import NoneType
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from vaelab.reporting.gathering import Report
from vaelab.reporting.groups import Group
from vaelab.runs.folder.identity import digest, flatten
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.tracking import loggers
from vaelab.runs.tracking.wandb_options import checked


def log_report(folder: Path, report: Report, mode: str) -> None:
    """Log the report to the W&B project of the sweep's runs, unless no run logs to W&B.

    Its id follows from the sweep's name and its first run, so that a later report of the sweep updates the same run.

    Args:
        folder: the sweep's folder.
        mode: `offline`, `online` or `disabled`.
    """
    first = next((entry for entry in report.entries if entry.logger), None)
    if first is None or first.logger is None or mode == "disabled" or (folder / "wandb").is_symlink():
        return
    names = ("project", "entity")
    place = {name: first.logger[name] for name in names if isinstance(first.logger.get(name), str)}
    # the logger needs a run folder; making this one writes nothing
    run = RunFolder(folder, {"sweep": report.name, "jobs": report.counts})
    run.status["run_id"] = digest(f"{report.name} {first.run_id}")
    kwargs: dict[str, Any] = {"name": f"{report.name}-report", "job_type": "report", "mode": mode} | place
    kwargs |= {"dir": os.environ.get("WANDB_DIR")}  # not a stored one, because the folder may be a stranger's
    with loggers.closing(loggers.wandb_run(run, report.name, checked(kwargs))) as logger:
        assert isinstance(logger, WandbLogger)
        logger.log_table("jobs", *as_columns(report))
        best = {f"group_{group.number}": best_of(group) for group in report.groups}
        logger.experiment.summary.update(flatten({"jobs": report.counts, "seconds": report.seconds, "best": best}))


def best_of(group: Group) -> dict[str, Any]:
    """Return the best setting of a group, with the means of its numbers over seeds."""
    found: dict[str, Any] = {"title": group.title, "jobs": len(group.ranked)}
    if group.settings:
        best = group.settings[0]
        numbers = {name: best.mean(name) for name in best.jobs[0].result.numbers}
        found |= {"setting": best.label, "seeds": len(best.jobs), group.by: best.score}
        found |= {name: value for name, value in numbers.items() if value is not None}
    return found


def as_columns(report: Report) -> tuple[list[str], list[list[Any]]]:
    """Return the names of the columns and the rows. Each column has only numbers or only texts, as W&B requires."""
    columns = list(report.rows[0])
    texts = {name for name in columns for row in report.rows if type(row[name]) not in (int, float, NoneType)}
    cells = [[str(v) if name in texts and v is not None else v for name, v in row.items()] for row in report.rows]
    return columns, cells
