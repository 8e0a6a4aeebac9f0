"""Rehearse a training before it begins: would its callbacks resume from its checkpoints as if nothing had happened?"""

import copy
import faulthandler
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from vaelab.data import ImageData
from vaelab.data.splits import Splits
from vaelab.errors import ConfigError
from vaelab.runs.build import build, make_callbacks, make_trainer
from vaelab.runs.folder.checkpoint_files import CheckpointFiles, readable
from vaelab.runs.folder.contents import loaded
from vaelab.security.checkpoint_scan import check_format
from vaelab.security.untrusted import reason_of
from vaelab.training import VAEModule
from vaelab.training.cuda_graph import stay_on_cpu
from vaelab.training.other_callbacks import names_of, others

EXAMPLES, BATCHES, EPOCHS = 10, 2, 2  # of a rehearsal: examples of a minibatch and minibatches of an epoch, at most
LIMITS = {"max_epochs": EPOCHS, "max_steps": -1}
ON_CPU = {"accelerator": "cpu", "devices": 1, "profiler": None}
SAVED = "after the first epoch"  # the name of a checkpoint


def rehearse(cfg: DictConfig) -> None:
    """Train for two tiny epochs, once in one go, and once from the checkpoint after the first, on the CPU.

    All callbacks that are not vaelab's take part; the rest is known to resume exactly. The working folder is a
    temporary one, for callbacks that write to it. An error of a callback is ignored if it also comes without a
    checkpoint: the training itself will show it, or does not have it, because it has more examples.

    Raises:
        ConfigError: the message names the callbacks that change the batch size, whose state cannot be stored, or with
            which the second training fails or ends in other weights.
    """
    everyone = range(len(others(make_callbacks(cfg, bar=False))))
    if not everyone:
        return
    short = OmegaConf.merge(cfg, {"compile": False, "trainer": LIMITS, "runtime": ON_CPU})
    assert isinstance(short, DictConfig)
    with in_silence(), torch.random.fork_rng(devices=[]):
        data, module = build(short)
        shorten(data)
        rehearsal, together = partial(try_out, short, data, module), None
        try:
            if rehearsal(everyone):
                return
        except ConfigError as error:
            together = error
        for one in everyone:  # one by one, to name the one that is refused, and to try the others of one that fails
            rehearsal([one])
        if together is not None:
            raise together


def try_out(cfg: DictConfig, data: ImageData, module: VAEModule, chosen: Sequence[int]) -> bool:
    """Rehearse with some of the callbacks only; return whether they trained without an error."""
    files = InMemory()
    try:
        whole = train(cfg, *copy.deepcopy((data, module)), chosen, files)
    except ConfigError:
        raise
    except Exception:
        return False
    if SAVED not in files.contents:
        return False
    try:
        resumed = train(cfg, *copy.deepcopy((data, module)), chosen, files, SAVED)
    except Exception as error:
        how = f"failed ({type(error).__name__}: {reason_of(error)})"
    else:
        if whole.keys() == resumed.keys() and all(same(leaf, resumed[path]) for path, leaf in whole.items()):
            return True
        how = "ended in other weights than a training in one go"
    names = names_of(made(cfg, chosen))
    raise ConfigError(f"in a rehearsal, a training that resumed from a checkpoint {how}: leave out {names}")


def made(cfg: DictConfig, chosen: Sequence[int]) -> list[Callback]:
    """Make some of the callbacks that are not vaelab's."""
    callbacks = others(make_callbacks(cfg, bar=False))
    return [callbacks[one] for one in chosen]


def train(
    cfg: DictConfig,
    data: ImageData,
    module: VAEModule,
    chosen: Sequence[int],
    files: "InMemory",
    resume: str | None = None,
) -> dict[str, Any]:
    """Return the weights after a training, and the state of its optimiser, by the paths to them."""
    size, callbacks = data.batch_size, made(cfg, chosen)
    with TemporaryDirectory() as folder, chdir(folder):
        trainer = make_trainer(cfg, Path(folder), [*callbacks, SaveOnce()], files)
        trainer.logger = DummyLogger()
        try:
            trainer.fit(module, data, ckpt_path=resume)
        finally:
            if faulthandler.is_enabled():  # Lightning has reset the handlers of all signals, also that of a crash
                faulthandler.disable()
                faulthandler.enable(2)
            if data.batch_size != size:
                names = names_of(callbacks)
                raise ConfigError(f"the batch size is part of a run's identity: leave out {names}, type batch_size=")
    states = [optimizer.state_dict() for optimizer in trainer.optimizers]
    leaves, _ = tree_flatten_with_path([dict(module.state_dict()), states, module.steps])
    return {keystr(path): leaf for path, leaf in leaves}


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal to the last bit; NaN equals NaN."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        equal = one.shape == other.shape and one.dtype == other.dtype
        return equal and bool(((one == other) | (one.isnan() & other.isnan())).all())
    return bool(one == other or (one != one and other != other))


@contextmanager
def in_silence() -> Iterator[None]:
    """Log, print and warn of nothing, because the training itself will say it."""
    former = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def shorten(data: ImageData) -> None:
    """Keep a few examples only."""
    data.batch_size, batches = min(data.batch_size, EXAMPLES), min(data.batches_per_epoch, BATCHES)
    size = data.batch_size * batches
    few_of_each: Splits = {name: split.take(np.arange(len(split))[:size]) for name, split in data.split.items()}
    data.split = few_of_each
    data.images = {name: images[:size] for name, images in data.images.items()}


class SaveOnce(Checkpoint):
    """Saves a checkpoint after the first epoch."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stay_on_cpu(trainer.optimizers[0])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(SAVED, weights_only=False)


class InMemory(CheckpointFiles):
    """Keeps checkpoints in memory, by their paths, and writes no file."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, memoryview] = {}

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.contents[str(path)] = readable(checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        content = self.contents[str(path)]
        checkpoint = loaded(BytesIO(content), len(content))
        check_format(checkpoint, len(content), Path(path))
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        self.contents.pop(str(path), None)
