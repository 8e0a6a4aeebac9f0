"""Rehearse a training before it begins: would its callbacks resume from its checkpoints as if nothing had happened?"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path

from vaelab.data import ImageData, Split
from vaelab.data.splits import Splits
from vaelab.errors import ConfigError, DivergedError
from vaelab.runs.build import make_callbacks, make_trainer
from vaelab.runs.folder.checkpoint_files import CheckpointFiles, readable
from vaelab.runs.folder.contents import loaded
from vaelab.runs.validate import refusing
from vaelab.security.checkpoint_scan import check_format
from vaelab.training import VAEModule
from vaelab.training.cuda_graph import uncapturable
from vaelab.training.other_callbacks import PREPARING, STATE, names_of, others

ON_CPU = {"accelerator": "cpu", "devices": 1, "profiler": None}
NO_LOGGER = "vaelab.runs.tracking.none"
EXAMPLES, BATCHES, EPOCHS = 10, 2, 2  # of a rehearsal, at most: examples of a minibatch, minibatches of an epoch


def rehearse(cfg: DictConfig, module: VAEModule, data: ImageData) -> None:
    """Train copies for two tiny epochs, once in one go, and once interrupted after the first.

    Only callbacks take part that are not vaelab's, and that have a state or prepare the training; all else is known to
    resume exactly. New ones are made, which act in a temporary folder, on the CPU.

    Raises:
        ConfigError: a callback fails, its state cannot be stored, it changes the batch size, or the interrupted
            training ends in other weights.
    """
    names = names_of(rehearsed(cfg))
    if not names:
        return
    files = InMemory()
    with refusing(f"callbacks: {names}", (Exception,)), in_silence(), torch.random.fork_rng(devices=[]):
        try:
            whole, interrupted = (train(cfg, module, data, files, resume) for resume in (False, True))
        except DivergedError:
            return  # the training itself may not diverge, because its minibatches are larger
    if whole.keys() != interrupted.keys() or not all(map(same, whole.values(), interrupted.values())):
        raise ConfigError(
            f"with {names}, a training that resumes from a checkpoint ends in other weights than a training in one go: "
            "leave it out"
        )


def rehearsed(cfg: DictConfig) -> list[Callback]:
    """Make the callbacks that take part."""
    return others(make_callbacks(cfg, bar=False), (*STATE, *PREPARING))


def train(cfg: DictConfig, module: VAEModule, data: ImageData, files: "InMemory", resume: bool) -> dict[str, Any]:
    """Train a copy; return its weights and the state of its optimiser, by the paths to them."""
    module = copy.deepcopy(module)
    module.compile_objective = False
    make = module.optimizer
    module.optimizer = lambda parameters: uncapturable(make(parameters))
    limits = {"max_epochs": min(cfg.trainer.max_epochs or EPOCHS, EPOCHS)}
    short = OmegaConf.merge(cfg, {"trainer": limits, "runtime": ON_CPU})
    assert isinstance(short, DictConfig)
    with TemporaryDirectory() as folder:
        trainer = make_trainer(short, Path(folder), [*rehearsed(cfg), SaveOnce()], files)
        trainer.logger = None if cfg.runtime.logger["_target_"] == NO_LOGGER else DummyLogger()
        few = tiny(data)
        size = few.batch_size
        trainer.fit(module, few, ckpt_path="in memory" if resume else None)
    if few.batch_size != size:
        raise ConfigError("the batch size is part of a run's identity, and cannot be changed: type batch_size=")
    states = [optimizer.state_dict() for optimizer in trainer.optimizers]
    leaves, _ = tree_flatten_with_path([dict(module.state_dict()), states, module.steps])
    return {keystr(path): leaf for path, leaf in sorted(leaves, key=lambda leaf: keystr(leaf[0]))}


def same(one: Any, other: Any) -> bool:
    """Return whether two values are equal to the last bit."""
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else bool(one == other)


@contextmanager
def in_silence() -> Iterator[None]:
    """Log, print and warn of nothing, because the training itself will say it."""
    former = logging.root.manager.disable
    logging.disable()
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)


def tiny(data: ImageData) -> ImageData:
    """Return the same data with a few examples."""
    few = copy.copy(data)
    few.batch_size = min(data.batch_size, EXAMPLES)
    size = few.batch_size * min(data.batches_per_epoch, BATCHES)
    few_of_each: Splits = {name: Split(split.images[:size]) for name, split in data.split.items()}
    few.split = few_of_each
    few.images = {name: images[:size] for name, images in data.images.items()}
    return few


class SaveOnce(Checkpoint):
    """Saves a checkpoint after the first epoch."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint("in memory", weights_only=False)


class InMemory(CheckpointFiles):
    """Keeps the last checkpoint in memory, and writes no file."""

    content = memoryview(b"")

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        self.content = readable(checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        checkpoint = loaded(BytesIO(self.content), len(self.content))
        check_format(checkpoint, len(self.content), Path(path))
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None: ...
