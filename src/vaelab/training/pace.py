"""Warn of a training that something outside of it makes slow."""

import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from vaelab.training.lightning_module import VAEModule

log = logging.getLogger(__name__)
SCHEDULED = Path("/proc/thread-self/schedstat")  # nanoseconds on a core, then nanoseconds of waiting for one (Linux)


class PaceWarning(Callback):
    """Warns once if training waits for processor cores that others use, or is far slower than before."""

    WAITING = 0.35  # the largest share of its time for which the training thread may wait for a core
    SLOWDOWN = 4.0  # how many times as long as in the fastest period so far an optimiser step may take
    PERIOD = 10.0  # seconds of training over which both are measured

    def __init__(self) -> None:
        self.warned = False
        self.fastest = float("inf")  # seconds of a step
        self.steps, self.seconds = 0, 0.0  # of training in this period

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.scheduled = scheduled()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self.before = cast(VAEModule, pl_module).steps, time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        steps, seconds = self.before
        self.steps += cast(VAEModule, pl_module).steps - steps
        self.seconds += time.perf_counter() - seconds
        if self.seconds >= self.PERIOD and self.steps > 0 and not self.warned:
            former, self.scheduled = self.scheduled, scheduled()
            on_core, waiting = (now - before for now, before in zip(self.scheduled, former, strict=True))
            self.judge(self.seconds / self.steps, waiting / max(1, on_core + waiting))
            self.steps, self.seconds = 0, 0.0

    def judge(self, step: float, waiting: float) -> None:
        """Warn if a step of the period took too many seconds, or the thread waited too large a share of its time."""
        self.fastest = min(step, self.fastest)
        if waiting > self.WAITING:
            self.warned = True
            threads = torch.get_num_threads()
            fewer = f", or have one thread instead of {threads}: export OMP_NUM_THREADS=1" if threads > 1 else ""
            log.warning(
                "training waits for a processor core in %.0f %% of its time, because other programs use the same "
                "cores: run fewer at a time%s",
                *(100 * waiting, fewer),
            )
        elif step > self.SLOWDOWN * self.fastest:
            self.warned = True
            log.warning(
                "an optimiser step now takes %.3g s, and took %.3g s before: see which other programs use the "
                "processor, the memory or the GPU",
                *(step, self.fastest),
            )


def scheduled() -> tuple[int, int]:
    """Return for how long this thread has run on a core, and for how long it has waited for one; zeros if unknown."""
    with suppress(OSError, ValueError):
        on_core, waiting, _ = map(int, SCHEDULED.read_text().split())
        return on_core, waiting
    return 0, 0
