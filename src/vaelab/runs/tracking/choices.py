"""The loggers that a run can have beside `Curves`. Their options are checked before Lightning is imported."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from vaelab.runs.tracking.wandb_options import check_sweep, checked

MakeLogger = Callable[..., Any]  # takes a `RunFolder` and the sweep's name, or None; makes a logger, or None


def wandb(**options: Any) -> MakeLogger:
    """Check the options of W&B, and return a function that makes a W&B run in the run folder.

    A resumed run keeps its id; the x-axis of curves is `samples_seen`. Names and tags that are too long are shortened.

    Args:
        options: those of `conf/runtime/logger/wandb.yaml`, and others of `wandb.init`.

    Raises:
        ConfigError: see `checked` and `check_sweep` in `vaelab.runs.tracking.wandb_options`.
    """
    found = checked(options)
    check_sweep(found)
    return partial(_wandb, options=found, sweep_id=os.environ.get("WANDB_SWEEP_ID"))


def _wandb(run: Any, group: str | None, **options: Any) -> Any:
    from vaelab.runs.tracking.loggers import wandb_run

    return wandb_run(run, group, **options)


def tensorboard(run: Any, group: str | None) -> Any:
    """Make a logger that writes TensorBoard's event files in the run folder."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(run.path, name=None, version="tensorboard")


def none(run: Any, group: str | None) -> None:
    """Make no other logger than `Curves`."""
