"""Callbacks as a user would write them: `+callbacks.mine._target_=tests.helpers.callbacks.Keeps`."""

from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

STORED = {
    "ordered": OrderedDict(a=1),
    "counter": Counter("aab"),
    "scalar": np.float64(0.5),
    "set": {1, "a", (1, 2)},
    "bytes": b"a\xff",
    "no bytes": b"",
    "dtype": torch.float32,
    "size": torch.Size([2]),
    "device": torch.device("cpu"),
    "complex": 1j,
    "view": torch.arange(4.0)[:2],
    "expanded": torch.ones(1).expand(5000),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "whole numbers": np.random.default_rng(0).bit_generator.state,
    "module": torch.nn.Linear(2, 2).state_dict(),
}
NOT_STORED = {"path": Path("a"), "function": lambda: None, "frozen": frozenset([1]), "array": np.ones(2)}


class Keeps(Callback):
    """Has a state of one kind, from the first step on."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.kept: Any = None

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.kept = (STORED | NOT_STORED)[self.kind]

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = state_dict["kept"]


class Forgets(Callback):
    """Halves the weights in the second epoch, but does not know after a resume how many epochs there were."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs += 1
        if self.epochs == 2:
            for parameter in pl_module.parameters():
                parameter.data.mul_(0.5)


class Loads(Callback):
    """Cannot load the state that it saves."""

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state_dict["kept"]


class Resizes(Callback):
    """Changes the batch size."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.data.batch_size = 5


class Breaks(Callback):
    """Has all weights NaN at the end of a training, without a step that diverges."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for parameter in pl_module.parameters():
            parameter.data.fill_(float("nan"))


class Writes(Callback):
    """Appends a row to a file in the working folder at each epoch's start; needs labels, and more than 20 examples."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with Path("rows.csv").open("a") as file:
            file.write(f"{trainer.current_epoch}\n")
        split = pl_module.data.split["train"]
        assert len(split.labels) == len(split.images)
        assert len(split.images) > 20


class Stops(Callback):
    """Tells the trainer to stop, in the hook `hook`, after `steps` steps."""

    def __init__(self, hook: str, steps: int) -> None:
        def stop(trainer: pl.Trainer, *args: Any, **kwargs: Any) -> None:
            trainer.should_stop |= trainer.global_step >= steps

        setattr(self, hook, stop)


class Records(Callback):
    """Counts how often each hook of a step is called."""

    calls: Counter[str] = Counter()  # noqa: RUF012, because the test reads it

    def __init__(self, hooks: list[str]) -> None:
        for hook in hooks:
            setattr(self, hook, lambda *args, hook=hook, **kwargs: self.calls.update([hook]))
