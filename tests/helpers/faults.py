"""What can go wrong in a job of a sweep, as a callback: `+callbacks.fault._target_=tests.helpers.faults.Fault`."""

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

FAULT = "+callbacks.fault._target_=tests.helpers.faults.Fault"


class Fault(Callback):
    """Does `act` after a Lightning step, in a run that has not done it before; see `ACTS`."""

    def __init__(self, act: str, once: bool = False) -> None:
        self.act = act
        self.once = once

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
        folder = Path(trainer.default_root_dir)
        done = folder / "fault"
        if (folder / "status.json").exists() and not (self.once and done.exists()):  # a rehearsal has no status
            done.touch()
            ACTS[self.act]()


def _raise() -> None:
    raise ZeroDivisionError("my own bug")


ACTS = {
    "none": lambda: None,
    "raise": _raise,
    "exit": lambda: sys.exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGTERM),
}
