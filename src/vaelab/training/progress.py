"""A progress bar for training and one for the test; in a job of a sweep, a file with the same content."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vaelab.data.batches import ShuffledIndices
from vaelab.objectives.base import LOSS
from vaelab.training.lightning_module import VAEModule

PROGRESS_IN_FILE = "VAELAB_PROGRESS_IN_FILE"  # set in a job of a sweep, because bars of several jobs would collide
PROGRESS_FILE = ".progress.json"
EVERY = 1.0  # seconds between two writes of the file, at least


class InFile:
    """A stand-in for `rich.progress.Progress` that writes its fields to a file, for the process that shows the sweep.

    Args:
        path: the file; `stop` deletes it.
        shown: the initial `description`, `total`, `completed` and `note`.
    """

    def __init__(self, path: Path, **shown: Any) -> None:
        self.path = path
        self.shown = shown
        self.written = 0.0
        self.write()

    def update(self, task: TaskID, **fields: Any) -> None:
        self.shown |= fields
        if time.monotonic() >= self.written + EVERY:
            self.write()

    def advance(self, task: TaskID) -> None:
        self.update(task, completed=self.shown["completed"] + 1)

    def write(self) -> None:
        self.written = time.monotonic()
        new = self.path.with_suffix(".new")
        with suppress(OSError):  # only the display needs the file
            new.write_text(json.dumps(self.shown), encoding="utf-8")
            new.replace(self.path)

    def stop(self) -> None:
        self.path.unlink(missing_ok=True)


class ProgressBar(Callback):
    """Shows optimiser steps done, the time left, and the latest training and validation metric in nats."""

    def __init__(self) -> None:
        self.progress: Progress | InFile | None = None
        self.task = TaskID(0)
        self.bounds = {"train": "", "val": ""}

    def start(self, trainer: pl.Trainer, description: str, total: int, completed: int = 0) -> None:
        shown = {"description": description, "total": total, "completed": completed, "note": ""}
        if PROGRESS_IN_FILE in os.environ:
            self.progress = InFile(Path(trainer.default_root_dir) / PROGRESS_FILE, **shown)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(compact=True),  # the line must fit in 80 columns
            TextColumn("{task.fields[note]}"),
        )
        self.progress = progress = Progress(*columns, refresh_per_second=4)
        self.task = progress.add_task(**shown)
        progress.start()

    def stop(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, VAEModule)
        if not trainer.is_global_zero:
            return
        per_epoch = cast(ShuffledIndices, trainer.train_dataloader).batches_per_epoch
        limits = [trainer.max_epochs * per_epoch if trainer.max_epochs else -1, pl_module.max_steps]
        self.start(trainer, "training", min(limit for limit in limits if limit >= 0), pl_module.steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        assert isinstance(pl_module, VAEModule)
        first = (*pl_module.objective.metrics, LOSS)[0]
        self.show("train", first.name, pl_module.latest)
        if self.progress is not None:
            self.progress.update(self.task, completed=pl_module.steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "val/elbo" in trainer.callback_metrics:
            self.show("val", "elbo", float(trainer.callback_metrics["val/elbo"]))

    def show(self, stage: str, name: str, value: float) -> None:
        self.bounds[stage] = f"{stage} {name} {value:.1f}"
        if self.progress is not None:
            self.progress.update(self.task, note="  ".join(filter(None, self.bounds.values())))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start(trainer, "testing ", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.advance(self.task)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop()

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        self.stop()
