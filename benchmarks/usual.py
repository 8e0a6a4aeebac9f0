"""Lightning with a DataLoader, as its tutorials have it, and a watch for what Lightning runs; a worker of `run.py`."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from plain import PlainVAE
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from worker import Job, Loop, Network, now, serve

SKIP = 20  # optimiser steps at the start of a fit that are not timed: setting up, and capturing or compiling


class UsualModule(pl.LightningModule):
    """The network of the plain loop as a tutorial would put it into Lightning."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.vae = PlainVAE(network)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.vae.loss(torch.bernoulli(batch[0]))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Watch(pl.Callback):
    """Times a fit from the first Lightning step that ends `SKIP` optimiser steps or more after its start.

    Args:
        count: tells how many optimiser steps were done.
        device: what to wait for before a look at the clock.
    """

    def __init__(self, count: Callable[[], int], device: str) -> None:
        self.count = count
        self.device = device
        self.first = count()
        self.begun: tuple[int, float] | None = None
        self.result = (0, 0.0)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any) -> None:
        if self.begun is None and self.count() - self.first >= SKIP:
            self.begun = self.count(), now(self.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.begun
        self.result = self.count() - self.begun[0], now(self.device) - self.begun[1]


def quiet_trainer(device: str, watch: pl.Callback, max_steps: int = -1) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        max_steps=max_steps,
        limit_val_batches=0,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )


def make(job: Job) -> Loop:
    grey = job.images() / 255
    loader = DataLoader(TensorDataset(grey), batch_size=job.network.batch_size, shuffle=True)
    module = UsualModule(job.network)

    def loop(steps: int) -> tuple[int, float]:
        watch = Watch(lambda: 0, job.device)
        trainer = quiet_trainer(job.device, watch, SKIP + steps)
        watch.count = lambda: trainer.global_step
        trainer.fit(module, loader)
        if watch.result[0] != steps:
            raise RuntimeError(f"{watch.result[0]} steps were timed instead of {steps}")
        return watch.result

    return loop


if __name__ == "__main__":
    serve(make)
