"""Completes one run: trains what is left to train, evaluates, and leaves the run folder finished."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers.logger import Logger

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
from vaelab.training.step import Together


def complete(
    cfg: DictConfig, path: Path, group: str | None, stop: Stop, together: Together | None = None, bar: bool = True
) -> tuple[Metrics, str]:
    """Completes the run that `cfg` describes, in this process or, where it asks for several devices, in one for each.

    This process holds the folder and says there how the run ended, whatever becomes of the others.

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
    training = Training(cfg, path, bar)
    found = folder.find_checkpoint()  # to say so, before anything is written, if it is damaged or of another model
    if found is not None:
        check_resumable(training.module, *found)
    with folder.running({"data": training.data.record()}, num_processes):
        if num_processes == 1:
            metrics = training.run(folder, group, stop, together)
        else:
            metrics = launch(complete_share, num_processes, contents(cfg), path, group, bar)
        folder.finish(metrics)
    sync = None if group is not None else sync_line(path)  # a sweep's is for all its runs
    return metrics, f"run folder: {os.path.relpath(path)}" + (f"\nsend it to W&B: {sync}" if sync else "")


class Training:
    """The training of a run, and the evaluation after it, ready to begin: everything that can be refused was looked at.

    Args:
        cfg: the configuration, checked.
        path: the run folder.
        bar: see `complete`.
    """

    def __init__(self, cfg: DictConfig, path: Path, bar: bool) -> None:
        self.cfg = cfg
        self.data, self.module = build(cfg)
        self.trainer = make_trainer(cfg, path, make_callbacks(cfg, bar))

    def run(self, folder: RunFolder, group: str | None, stop: Stop, together: Together | None = None) -> Metrics:
        """Trains and evaluates, in this process or, in one of several, its share; returns the metrics of the whole.

        The first process alone has a logger.
        """
        trainer, module, data = self.trainer, self.module, self.data
        module.together, module.stop = together, stop
        first = this_process()[0] == 0
        with loggers.closing(make_logger(self.cfg, folder, group) if first else None) as trainer.logger:
            with stop.patiently():
                trainer.fit(module, data, ckpt_path=folder.found and folder.found[1], weights_only=True)
            metrics = evaluate_last_and_best(trainer, module, data, folder.checkpoints / "best.ckpt")
            with stop.excusing():
                summarize(trainer.logger, metrics, data.record(), contents(self.cfg))
            return metrics


def complete_share(config: Mapping[str, Any], path: Path, group: str | None, bar: bool) -> Metrics:
    """The share of one of several processes, while the one that started them holds the folder."""
    cfg = OmegaConf.create(dict(config))
    with _only_the_first_speaks(path), heeding() as stop:
        folder = RunFolder(path, plain(cfg))
        folder.found = folder.find_checkpoint()
        with _unheard():
            training = Training(cfg, path, bar)
        return training.run(folder, group, stop)


@contextmanager
def _only_the_first_speaks(path: Path) -> Iterator[None]:
    if this_process()[0] > 0:
        with _unheard():
            yield
    else:
        with logging_to(path / "train.log"):
            yield


@contextmanager
def _unheard() -> Iterator[None]:
    """Logs nothing: another process has said the same."""
    former = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(former)


def make_logger(cfg: DictConfig, folder: RunFolder, group: str | None) -> Logger | None:
    """The logger that `cfg` chooses, for a run folder that is held."""
    with refusing("the logger"):
        return instantiate(cfg.runtime.logger)(folder, group)
