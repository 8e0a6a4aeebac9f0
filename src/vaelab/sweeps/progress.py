"""Show a sweep: a line for each job that ends, the progress of the others, and a table at the end."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from vaelab.errors import RunFolderError
from vaelab.runs.folder.contents import read_json
from vaelab.runs.folder.run_folder import OUTPUT
from vaelab.runs.tracking.wandb_runs import sync_line
from vaelab.security.redaction import printable
from vaelab.sweeps.folder import Job
from vaelab.sweeps.job import JobSpec
from vaelab.training.in_notebook import text_console
from vaelab.training.progress import PROGRESS_FILE

EVERY = 1.0  # seconds between two looks at the folders
SHOWN = 8  # maximum number of bars of running jobs
PATIENCE = 10.0  # seconds; the reason why jobs wait is printed once it has lasted this long
ROWS = 50  # maximum number of rows of finished jobs in the table


class SweepProgress:
    """The progress of a batch: a line for each job that ends and, on a terminal, a bar for each running job."""

    def __init__(self, name: str, planned: Sequence[JobSpec]) -> None:
        self.planned = planned
        self.began, self.looked = time.time(), time.monotonic()
        self.number = sum(job.outcome is not None for job in planned)
        self.console = text_console()
        self.bars = Progress(  # the columns must fit in 80 characters
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=2,
            speed_estimate_period=3600,
            disable=not self.console.is_terminal,
        )
        self.whole = self.bars.add_task(name[:20], total=len(planned), completed=self.number, note="")
        self.each: dict[Path, TaskID] = {}
        self.reason: str | None = None  # why jobs wait
        self.told: str | None = None  # the last reason that was printed
        self.since = time.monotonic()  # when the reason changed

    def __enter__(self) -> "SweepProgress":
        if self.number:
            _print(self.console, f"{self.number} of {len(self.planned)} jobs need not run")
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def ended(self, job: JobSpec) -> None:
        """Print how a job ended."""
        assert job.outcome is not None
        self.number += 1
        value = "" if job.outcome.value is None else f"{job.metric} {job.outcome.value:.2f}"
        text = f"{job.outcome.state:11} {job.label}  {value or job.outcome.error or ''}"
        _print(self.console, f"[{self.number}/{len(self.planned)}] {text}")

    def waiting(self, reason: str | None) -> None:
        """Print why jobs wait, once it has lasted for a while, and again each time it has changed."""
        if reason != self.reason:
            self.reason, self.since = reason, time.monotonic()
        if reason != self.told and time.monotonic() >= self.since + PATIENCE:
            self.told = reason
            if reason is not None:
                _print(self.console, reason)

    def refresh(self) -> None:
        """Update the bars from the folders of the running jobs, at most once every `EVERY` seconds."""
        if not self.console.is_terminal or time.monotonic() < self.looked + EVERY:
            return
        self.looked = time.monotonic()
        left = {job.path: job for job in self.planned if job.outcome is None}
        running = {path: found for path in left if (found := _read(path / PROGRESS_FILE, self.began))}
        for path in self.each.keys() - running.keys():
            self.bars.remove_task(self.each.pop(path))
        for path in list(running)[:SHOWN]:
            if path not in self.each:
                self.each[path] = self.bars.add_task(f"  {left[path].label}"[:40], total=None, note="")
            latest = running[path]["note"].split("  ")[-1]
            shown = {"total": running[path]["total"], "completed": running[path]["completed"], "note": latest}
            self.bars.update(self.each[path], **shown)
        states = Counter(job.state for job in self.planned)
        note = f"{states['done']} done, {len(running)} running, {states['failed']} failed of {len(self.planned)}"
        parts = sum(found["completed"] / found["total"] for found in running.values())
        self.bars.update(self.whole, completed=len(self.planned) - len(left) + parts, note=note)


def show_sweep(folder: Path, jobs: Sequence[JobSpec]) -> None:
    """Print the table of a sweep, why jobs are not done, and what to type next."""
    console = text_console()
    done = [job for job in jobs if job.state == "done"]
    others = [job for job in jobs if job.state != "done"]
    table = Table("job", "state", "val/elbo", "seconds", title=f"sweep {folder.name}", title_justify="left")
    table.columns[2].justify = table.columns[3].justify = "right"
    for job in [*done[:ROWS], *others]:
        state, seconds = job.state or "not begun", 0.0
        with suppress(RunFolderError):
            stored = Job(job.path)  # a cluster may continue a job after this command has stopped
            state, seconds = job.state or stored.state.replace("waiting", "not begun"), stored.seconds
        value = "" if job.outcome is None or job.outcome.value is None else f"{job.outcome.value:.2f}"
        table.add_row(job.label, state, value, f"{seconds:.0f}" if seconds else "")
    console.print(table)
    if len(done) > ROWS:
        console.print(f"and {len(done) - ROWS} more that are done")
    show_failures(console, jobs)
    path = os.path.relpath(folder)
    _print(console, f"sweep folder: {path}\nreport: python -m vaelab.report sweep={path}")
    if line := sync_line(folder, [job.config for job in jobs]):
        _print(console, f"send it to W&B: {line}")


def show_failures(console: Console, jobs: Sequence[JobSpec]) -> None:
    """Print why jobs have ended without being done, each with its log."""
    for job in jobs:
        if job.outcome is not None and job.outcome.state != "done":
            log = job.path / (OUTPUT if (job.path / OUTPUT).exists() else "train.log")
            _print(console, f"{job.outcome.state}: {job.label}\n  {job.outcome.error}\n  {os.path.relpath(log)}")


def _print(console: Console, text: str) -> None:
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def _read(path: Path, began: float) -> dict[str, Any] | None:
    with suppress(OSError, RunFolderError):
        found = read_json(path)
        if path.stat().st_mtime >= began and found["total"] > 0:  # an older file was left by a killed job
            return found
    return None
