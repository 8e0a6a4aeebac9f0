"""Corrections of Lightning's counts, because one Lightning step is many optimiser steps here."""

from bisect import bisect_right
from typing import Any

import pytorch_lightning as pl

from vaelab.data.batches import ShuffledIndices


def go_on_inside_epoch(loop: dict[str, Any], steps: int, loader: ShuffledIndices) -> None:
    """Make Lightning's restored loop resume inside the epoch, after `steps` optimiser steps in all.

    Its own counts may be wrong, because `max_steps` ended the checkpoint's run inside an epoch, or because chunks had
    another length there.
    """
    epoch, done = divmod(steps, loader.batches_per_epoch)
    if done:
        begun = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
        loop["epoch_progress"] = {"total": begun, "current": dict(begun)}
        progress = loop["epoch_loop.batch_progress"]
        progress["current"] = dict.fromkeys(progress["current"], bisect_right(loader.chunk_starts, done) - 1)
        progress["is_last_batch"] = False


def count_steps(trainer: pl.Trainer, steps: int) -> None:
    """Add optimiser steps that Lightning did not see to `trainer.global_step`."""
    total = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total
    total.ready += steps
    total.completed += steps
