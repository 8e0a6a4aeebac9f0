"""The progress of a training and of a test: a bar, lines where there is no terminal, and a file in a job of a sweep."""

import json
import logging
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vaelab.data.batches import TrainingIndices
from vaelab.training.in_notebook import NotebookBar
from vaelab.training.lightning_module import VAEModule

PROGRESS_IN_FILE = "VAELAB_PROGRESS_IN_FILE"  # set in a job of a sweep, because bars of several jobs would collide
PROGRESS_FILE = ".progress.json"
EVERY = 1.0  # minimum number of seconds between two writes of the file, and between two epochs' lines
LONG = 60.0  # seconds after which there is a line within an epoch, or within a test

log = logging.getLogger(__name__)


class ProgressBar(Callback):
    """Shows optimiser steps done, the time left, and the latest training and validation metric in nats.

    A terminal and a notebook show a bar. Elsewhere a line is printed for each epoch, at most one a second. The log has
    these lines in any case.
    """

    def __init__(self) -> None:
        self.bar: Progress | None = None  # None before the start and after the end
        self.in_notebook: NotebookBar | None = None  # draws the bar, in a notebook
        self.bounds = {"train": "", "val": ""}
        self.silent = False  # for all but the first of several runs, which only log

    def start(self, trainer: pl.Trainer, description: str, total: int, completed: int = 0) -> None:
        self.file = Path(trainer.default_root_dir) / PROGRESS_FILE
        self.written, self.begun_at, self.told_at = 0.0, completed, completed
        self.told = self.began = time.monotonic()
        self.in_file = PROGRESS_IN_FILE in os.environ and not self.silent
        console, quiet = Console(), self.silent or self.in_file
        self.in_notebook = NotebookBar() if console.is_jupyter and not quiet else None
        has_bar = console.is_terminal and not quiet and self.in_notebook is None
        self.prints = not (has_bar or quiet or self.in_notebook)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(compact=True),  # the line must fit in 80 columns
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
            disable=not has_bar,
        )
        self.bar.add_task(description, total=total, completed=completed, note="")
        self.bar.start()
        self.update()

    def tell(self, text: str, least: float) -> None:
        """Log a line of progress, and print it where there is no bar, if the last line is `least` seconds old."""
        if self.bar is None or (now := time.monotonic()) < self.told + least:
            return
        task = self.bar.tasks[0]
        done, left = task.completed - self.begun_at, (task.total or 0) - task.completed
        if task.completed == self.told_at:
            return
        self.told, self.told_at = now, task.completed
        seconds = (now - self.began) / done * left if done > 0 else 0.0
        remaining = f"{timedelta(seconds=round(seconds))} left" if left > 0 else ""
        parts = [f"{text} {task.completed:.0f}/{task.total:.0f}", task.fields["note"], remaining]
        line = "  ".join(filter(None, parts))
        log.info(line)
        if self.prints:
            print(line, flush=True)

    def update(self, **fields: Any) -> None:
        if self.bar is None:
            return
        task = self.bar.tasks[0]
        self.bar.update(task.id, **fields)
        if self.in_notebook:
            self.in_notebook.show(task)
        if self.in_file and time.monotonic() >= self.written + EVERY:
            self.written = time.monotonic()
            shown = {"description": task.description, "total": task.total, "completed": task.completed, **task.fields}
            new = self.file.with_suffix(".new")
            with suppress(OSError):  # only the display needs the file
                new.unlink(missing_ok=True)  # which may be a link that a stranger planted
                with new.open("x", encoding="utf-8") as file:
                    json.dump(shown, file)
                new.replace(self.file)

    def note(self, stage: str, name: str, value: float, **fields: Any) -> None:
        self.bounds[stage] = f"{stage} {name} {value:.1f}"
        self.update(note="  ".join(filter(None, self.bounds.values())), **fields)

    def stop(self, *args: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.stop()
            if self.in_notebook:
                self.in_notebook.show(self.bar.tasks[0], last=True)
            self.file.unlink(missing_ok=True)
            self.bar = None

    on_test_end = on_exception = stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast(VAEModule, pl_module)
        if trainer.is_global_zero:
            self.per_epoch = cast(TrainingIndices, trainer.train_dataloader).batches_per_epoch
            limits = [trainer.max_epochs * self.per_epoch if trainer.max_epochs else -1, module.max_steps]
            self.epochs = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
            self.start(trainer, "training", min(limit for limit in limits if limit >= 0), module.steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        module = cast(VAEModule, pl_module)
        self.note("train", module.uncaptured_step.names[0], module.latest, completed=module.steps)
        self.tell_epoch(module, LONG)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "val/elbo" in trainer.callback_metrics:
            self.note("val", "elbo", float(trainer.callback_metrics["val/elbo"]))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tell_epoch(cast(VAEModule, pl_module), EVERY)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.tell_epoch(cast(VAEModule, pl_module), 0.0)
        self.stop()

    def tell_epoch(self, module: VAEModule, least: float) -> None:
        if self.bar is not None:
            self.tell(f"epoch {-(-module.steps // self.per_epoch)}{self.epochs}  step", least)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start(trainer, "testing ", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.update(advance=1)
        self.tell("test", LONG)
