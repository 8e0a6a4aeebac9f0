"""What a sweep shows: a line for each job that ends, how far the others are, and a table at the end."""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from vaelab.errors import RunFolderError
from vaelab.runs.folder.run_folder import OUTPUT
from vaelab.runs.tracking.wandb_runs import sync_line
from vaelab.security.redaction import printable
from vaelab.sweeps.folder import Job
from vaelab.sweeps.job import Planned
from vaelab.training.progress import PROGRESS_FILE

EVERY = 1.0  # seconds from one look at the folders to the next
SHOWN = 8  # jobs that run, at most
ROWS = 50  # of the table, of jobs that are done


class SweepProgress:
    """Jobs done, running and failed, with the time left, and a bar for each that runs, also where they run in parallel.

    On a terminal; elsewhere the lines of the jobs that end are all.

    Args:
        name: of the sweep.
        planned: its jobs.
    """

    def __init__(self, name: str, planned: Sequence[Planned]) -> None:
        self.planned = planned
        self.began = time.time()
        self.started = self.looked = time.monotonic()
        self.before = sum(job.outcome is not None for job in planned)
        self.number = self.before
        self.console = Console()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8),
            TextColumn("{task.fields[note]}", markup=False),
        )
        self.whole, self.each = Progress(*columns), Progress(*columns, TimeElapsedColumn())  # 80 columns must hold them
        self.task = self.whole.add_task(name[:20], total=len(planned), completed=self.before, note="")
        self.live = Live(Group(self.whole, self.each), console=self.console, refresh_per_second=2)
        self.bars: dict[Path, TaskID] = {}

    def __enter__(self) -> "SweepProgress":
        if self.before:
            self.say(f"{self.before} of {len(self.planned)} jobs need nothing more")
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        self.console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    def ended(self, job: Planned) -> None:
        """Tells of a job that has ended."""
        assert job.outcome is not None
        self.number += 1
        value = "" if job.outcome.value is None else f"val/elbo {job.outcome.value:.2f}"
        told = value or job.outcome.error or ""
        self.say(f"[{self.number}/{len(self.planned)}] {job.outcome.state:11} {job.label}  {told}")

    def refresh(self) -> None:
        """Looks at the folders of the jobs that run, now and then."""
        if not self.console.is_terminal or time.monotonic() < self.looked + EVERY:
            return
        self.looked = time.monotonic()
        left = [job for job in self.planned if job.outcome is None]
        shown = {job.spec.path: found for job in left if (found := _read(job.spec.path / PROGRESS_FILE, self.began))}
        for path in [path for path in self.bars if path not in shown]:
            self.each.remove_task(self.bars.pop(path))
        for job in [job for job in left if job.spec.path in shown][:SHOWN]:
            self.show(job, shown[job.spec.path])
        states = Counter(job.outcome.state for job in self.planned if job.outcome is not None)
        note = f"{states['done']} done, {len(shown)} running, {states['failed']} failed of {len(self.planned)}"
        note += self.time_left(sum(found["completed"] / found["total"] for found in shown.values()), left)
        self.whole.update(self.task, completed=len(self.planned) - len(left), note=note)

    def show(self, job: Planned, found: dict[str, Any]) -> None:
        path = job.spec.path
        if path not in self.bars:
            self.bars[path] = self.each.add_task(f"  {job.label}"[:40], total=None, note="")
        latest = found["note"].split("  ")[-1]  # of the bounds
        self.each.update(self.bars[path], total=found["total"], completed=found["completed"], note=latest)

    def time_left(self, parts: float, left: Sequence[Planned]) -> str:
        """From the pace so far, in whole jobs and parts of those that run."""
        taken = self.number - self.before + parts
        if taken <= 0:
            return ""
        seconds = int((time.monotonic() - self.started) / taken * (len(left) - parts))
        return f", {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"


def show_sweep(folder: Path, jobs: Sequence[Planned]) -> None:
    """Prints the table that a sweep ends with: of each job state, value, time; and of those that are not done, why."""
    console = Console()
    done: list[Planned] = []
    others: list[Planned] = []
    for job in jobs:
        (done if job.outcome is not None and job.outcome.state == "done" else others).append(job)
    table = Table("job", "state", "val/elbo", "seconds", title=f"sweep {folder.name}", title_justify="left")
    for column in table.columns[2:]:
        column.justify = "right"
    for job in [*done[:ROWS], *others]:
        outcome = job.outcome
        value = "" if outcome is None or outcome.value is None else f"{outcome.value:.2f}"
        state, seconds = _told(job.spec.path)
        table.add_row(
            job.label, state if outcome is None else outcome.state, value, f"{seconds:.0f}" if seconds else ""
        )
    console.print(table)
    if len(done) > ROWS:
        console.print(f"and {len(done) - ROWS} more that are done")
    for job in others:
        if job.outcome is not None:
            log = job.spec.path / (OUTPUT if (job.spec.path / OUTPUT).exists() else "train.log")
            text = f"{job.outcome.state}: {job.label}\n  {job.outcome.error}\n  {os.path.relpath(log)}"
            console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
    closing = [
        f"sweep folder: {os.path.relpath(folder)}",
        f"report: python -m vaelab.report sweep={os.path.relpath(folder)}",
    ]
    closing += [f"send it to W&B: {line}"] if (line := sync_line(folder)) else []
    console.print("\n".join(closing), markup=False, highlight=False, soft_wrap=True)


def _told(path: Path) -> tuple[str, float]:
    """By a run folder: where the job is, and how long it took; a cluster's may go on without us."""
    try:
        job = Job(path)
        return ("not begun" if job.state == "waiting" else job.state), job.seconds
    except RunFolderError:
        return "damaged", 0.0


def _read(path: Path, began: float) -> dict[str, Any] | None:
    try:
        if path.stat().st_mtime < began:  # of a job that was killed
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if found["total"] > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
