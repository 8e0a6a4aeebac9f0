"""One run from its configuration to its metrics: open the run folder, build, fit, evaluate."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from vaelab.data import ImageData
from vaelab.runs.build import build, make_callbacks, make_trainer
from vaelab.runs.configuration import contents, plain
from vaelab.runs.folder.log import logging_to
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.processes.cores import this_process
from vaelab.runs.processes.distributed import launch
from vaelab.runs.results import Metrics, evaluate_last_and_best
from vaelab.runs.tracking import loggers
from vaelab.runs.tracking.wandb_runs import summarize, sync_line
from vaelab.runs.validate import processes_of, refusing
from vaelab.security.checkpoint_scan import check_resumable
from vaelab.signals import Stop, heeding
from vaelab.training import VAEModule
from vaelab.training.step import Together

Parts = tuple[ImageData, VAEModule, Trainer]


def complete(
    cfg: DictConfig, path: Path, group: str | None, stop: Stop, together: Together | None = None, bar: bool = True
) -> tuple[Metrics, str]:
    """Complete the run that `cfg` describes, in this process or, if it asks for several devices, in one for each.

    This process holds the folder, and writes down there how the run ended.

    Args:
        cfg: the configuration, checked.
        path: the run folder.
        group: the sweep's name, for the logger.
        stop: tells of signals.
        together: takes the training steps of this run with those of others.
        bar: show the progress bar, if there is one among the callbacks.

    Returns:
        What `metrics.json` holds, and a line that says what was done.

    Raises:
        RunFolderError: the folder holds another run, or another process holds the folder.
        Interrupted: a signal told the program to stop; the run can go on.
        ProcessError: one of several processes failed, which ended the others.
    """
    folder, num_processes = RunFolder(path, plain(cfg), rerun=cfg.runtime.rerun), processes_of(cfg.runtime)
    if folder.finished:
        return folder.metrics, f"finished before: {os.path.relpath(path)} (rerun=true starts over)"
    parts = data, module, _ = make_parts(cfg, path, bar)
    with folder.running({"data": data.record()}, num_processes, check=partial(check_resumable, module)):
        if num_processes == 1:
            metrics = fit_and_evaluate(cfg, parts, folder, group, stop, together)
        else:
            metrics = launch(complete_share, num_processes, contents(cfg), path, group, bar)
        folder.finish(metrics)
    sync = None if group is not None else sync_line(path)  # a sweep's is for all its runs
    return metrics, f"run folder: {os.path.relpath(path)}" + (f"\nsend it to W&B: {sync}" if sync else "")


def make_parts(cfg: DictConfig, path: Path, bar: bool) -> Parts:
    """Make the data, the module and the trainer of a run. Afterwards nothing in `cfg` but the logger can be refused."""
    data, module = build(cfg)
    return data, module, make_trainer(cfg, path, make_callbacks(cfg, bar))


def fit_and_evaluate(
    cfg: DictConfig, parts: Parts, folder: RunFolder, group: str | None, stop: Stop, together: Together | None = None
) -> Metrics:
    """Train and evaluate, in this process or, as one of several, its share; return the metrics of the whole.

    The first process alone has a logger.
    """
    data, module, trainer = parts
    module.together, module.stop = together, stop
    found, folder.found = folder.found, None  # which takes as much memory as the model and its optimiser
    if found is not None:
        trainer.strategy.checkpoint_io = AlreadyRead(found[0])
    with loggers.closing(make_logger(cfg, folder, group) if this_process()[0] == 0 else None) as trainer.logger:
        with stop.patiently():
            trainer.fit(module, data, ckpt_path=found and found[1], weights_only=True)
        metrics = evaluate_last_and_best(trainer, module, data, folder.checkpoints / "best.ckpt")
        with stop.excusing():
            summarize(trainer.logger, metrics, data.record(), contents(cfg))
        return metrics


class AlreadyRead(TorchCheckpointIO):
    """Gives Lightning the checkpoint that training goes on from, which was read when the folder was opened."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = [checkpoint]

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.checkpoint.pop()


def complete_share(config: Mapping[str, Any], path: Path, group: str | None, bar: bool) -> Metrics:
    """Do the share of one of several processes, while the one that started them holds the folder."""
    cfg = OmegaConf.create(dict(config))
    first = this_process()[0] == 0
    with logging_to(path / "train.log") if first else _unheard(), heeding() as stop:
        folder = RunFolder(path, plain(cfg))
        folder.found = folder.find_checkpoint()
        with _unheard():
            parts = make_parts(cfg, path, bar)
        return fit_and_evaluate(cfg, parts, folder, group, stop)


@contextmanager
def _unheard() -> Iterator[None]:
    """Log nothing: another process says the same."""
    former = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(former)


def make_logger(cfg: DictConfig, folder: RunFolder, group: str | None) -> Logger | None:
    """Make the logger that `cfg` chooses, for a run folder that is held."""
    with refusing("the logger"):
        return instantiate(cfg.runtime.logger)(folder, group)
