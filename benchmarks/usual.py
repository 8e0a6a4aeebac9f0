"""Lightning with a DataLoader, as in its tutorials: a worker of `run.py`. Also times fits for `vaelab_loop.py`."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from plain import PlainVAE
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from worker import Job, Loop, Network, now, serve

SKIP = 20  # optimiser steps at the start of a fit that are not timed, because of set-up, capturing and compiling


class UsualModule(pl.LightningModule):
    """The network of the plain loop in a LightningModule, as a tutorial would write it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.vae = PlainVAE(network)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = self.vae.loss(torch.bernoulli(batch[0]))
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Timer(pl.Callback):
    """Time a fit after its first `SKIP` optimiser steps, rounded up to a whole Lightning step.

    Its `tick` must be called after each Lightning step.

    Args:
        count: returns the number of optimiser steps taken.
        device: the device to synchronise with before reading the clock.
    """

    def __init__(self, count: Callable[[], int], device: str) -> None:
        self.count = count
        self.device = device
        self.first = count()
        self.start: tuple[int, float] | None = None
        self.result = (0, 0.0)

    def tick(self, *_: Any, **__: Any) -> None:
        if self.start is None and self.count() - self.first >= SKIP:
            self.start = self.count(), now(self.device)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert self.start
        self.result = self.count() - self.start[0], now(self.device) - self.start[1]


def quiet_trainer(device: str, timer: pl.Callback, max_steps: int = -1) -> pl.Trainer:
    return pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=-1,
        max_steps=max_steps,
        limit_val_batches=0,
        callbacks=[timer],
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
        timer = Timer(lambda: 0, job.device)
        module.on_train_batch_end = timer.tick
        trainer = quiet_trainer(job.device, timer, SKIP + steps)
        timer.count = lambda: trainer.global_step
        trainer.fit(module, loader)
        if timer.result[0] != steps:
            raise RuntimeError(f"{timer.result[0]} steps were timed, not {steps}")
        return timer.result

    return loop


if __name__ == "__main__":
    serve(make)
