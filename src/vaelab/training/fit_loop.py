"""Lightning's loop over epochs: resuming inside an epoch, and resuming after the end."""

from bisect import bisect_right
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.loops.fit_loop import _FitLoop

from vaelab.data.batches import TrainingIndices


class FitLoop(_FitLoop):
    """Lightning's loop, which also tells the callbacks that training ends when it resumes after its last step.

    Lightning returns at once in this case, so that a callback which averages weights would not put the mean in place.
    """

    skip = False  # type: ignore[assignment]

    @classmethod
    def replace(cls, trainer: Trainer) -> None:
        """Replace the loop of a new trainer."""
        loop = cls(trainer, trainer.min_epochs, trainer.max_epochs)
        loop.epoch_loop = trainer.fit_loop.epoch_loop
        trainer.fit_loop = loop


def go_on_inside_epoch(loop: dict[str, Any], steps: int, loader: TrainingIndices) -> None:
    """Make Lightning's restored loop resume inside the epoch, after `steps` optimiser steps in all.

    The loop's own counts may be wrong, because `max_steps` ended the checkpoint's run inside an epoch, or because that
    run had chunks of another length.
    """
    epoch, done = divmod(steps, loader.batches_per_epoch)
    if done:
        begun = {"ready": epoch + 1, "started": epoch + 1, "processed": epoch, "completed": epoch}
        loop["epoch_progress"] = {"total": begun, "current": dict(begun)}
        progress = loop["epoch_loop.batch_progress"]
        progress["current"] = dict.fromkeys(progress["current"], bisect_right(loader.chunk_starts, done) - 1)
        progress["is_last_batch"] = False
