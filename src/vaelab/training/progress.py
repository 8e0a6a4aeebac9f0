"""A progress bar for training and one for the test; in a job of a sweep, a file with the same content."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vaelab.data.batches import ShuffledIndices
from vaelab.training.in_notebook import NotebookBar
from vaelab.training.lightning_module import VAEModule

PROGRESS_IN_FILE = "VAELAB_PROGRESS_IN_FILE"  # set in a job of a sweep, because bars of several jobs would collide
PROGRESS_FILE = ".progress.json"
EVERY = 1.0  # minimum number of seconds between two writes of the file


class ProgressBar(Callback):
    """Shows optimiser steps done, the time left, and the latest training and validation metric in nats."""

    def __init__(self) -> None:
        self.bar: Progress | None = None  # None while no bar is shown
        self.in_notebook: NotebookBar | None = None  # draws the bar, in a notebook
        self.bounds = {"train": "", "val": ""}

    def start(self, trainer: pl.Trainer, description: str, total: int, completed: int = 0) -> None:
        self.file = Path(trainer.default_root_dir) / PROGRESS_FILE
        self.written = 0.0
        self.in_notebook = NotebookBar() if Console().is_jupyter else None
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(compact=True),  # the line must fit in 80 columns
            TextColumn("{task.fields[note]}"),
            refresh_per_second=4,
            disable=PROGRESS_IN_FILE in os.environ or self.in_notebook is not None,
        )
        self.bar.add_task(description, total=total, completed=completed, note="")
        self.bar.start()
        self.update()

    def update(self, **fields: Any) -> None:
        if self.bar is None:
            return
        task = self.bar.tasks[0]
        self.bar.update(task.id, **fields)
        if self.in_notebook:
            self.in_notebook.show(task)
        elif self.bar.disable and time.monotonic() >= self.written + EVERY:
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

    on_train_end = on_test_end = on_exception = stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        module = cast(VAEModule, pl_module)
        if trainer.is_global_zero:
            per_epoch = cast(ShuffledIndices, trainer.train_dataloader).batches_per_epoch
            limits = [trainer.max_epochs * per_epoch if trainer.max_epochs else -1, module.max_steps]
            self.start(trainer, "training", min(limit for limit in limits if limit >= 0), module.steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        module = cast(VAEModule, pl_module)
        self.note("train", module.uncaptured_step.names[0], module.latest, completed=module.steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "val/elbo" in trainer.callback_metrics:
            self.note("val", "elbo", float(trainer.callback_metrics["val/elbo"]))

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start(trainer, "testing ", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.update(advance=1)
