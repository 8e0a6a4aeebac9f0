"""A progress bar for the whole training, with the bound; another for the test."""

from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vaelab.data.loader import ShuffledIndices
from vaelab.module import VAEModule


class ProgressBar(Callback):
    """Optimiser steps done of all, with the epoch, the training and validation bound in nats, and the time left."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.task = TaskID(0)
        self.bounds = {"train": "", "val": ""}

    def start(self, description: str, total: int, completed: int = 0) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(compact=True),  # 80 columns must hold it all
            TextColumn("{task.fields[note]}"),
        )
        self.progress = Progress(*columns, refresh_per_second=4)
        self.task = self.progress.add_task(description, total=total, completed=completed, note="")
        self.progress.start()

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
        self.start("training", min(limit for limit in limits if limit >= 0), pl_module.steps)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        assert isinstance(pl_module, VAEModule)
        self.show("train", pl_module.train_elbo)
        if self.progress is not None:
            self.progress.update(self.task, completed=pl_module.steps)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if "val/elbo" in trainer.callback_metrics:
            self.show("val", float(trainer.callback_metrics["val/elbo"]))

    def show(self, stage: str, elbo: float) -> None:
        self.bounds[stage] = f"{stage} elbo {elbo:.1f}"
        if self.progress is not None:
            self.progress.update(self.task, note="  ".join(filter(None, self.bounds.values())))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop()

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start("testing ", int(sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.progress is not None:
            self.progress.advance(self.task)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop()

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        self.stop()
