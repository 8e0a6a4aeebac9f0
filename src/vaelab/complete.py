"""Completes one run: trains what is left to train, evaluates, and leaves the run folder finished."""

import os
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers.logger import Logger

from vaelab import loggers
from vaelab.checkpoint import check_resumable
from vaelab.checks import refusing
from vaelab.config import build, make_trainer, plain
from vaelab.interrupts import Stop
from vaelab.results import Metrics, evaluate_last_and_best
from vaelab.run import RunFolder
from vaelab.steps import Together
from vaelab.wandb_runs import summarize, sync_line


def complete(
    cfg: DictConfig, path: Path, group: str | None, stop: Stop, together: Together | None = None, bar: bool = True
) -> tuple[Metrics, str]:
    """Completes the run that `cfg` describes.

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
    """
    folder = RunFolder(path, plain(cfg), rerun=cfg.rerun)
    if folder.finished:
        return folder.metrics, f"finished before: {os.path.relpath(path)} (rerun=true starts over)"
    data, module = build(cfg)
    module.together, module.stop = together, stop
    callbacks = {name: node for name, node in (cfg.get("callbacks") or {}).items() if bar or name != "progress"}
    trainer = make_trainer(cfg, path, [instantiate(node) for node in callbacks.values() if node is not None])
    found = folder.find_checkpoint()  # to say so, before anything is written, if it is damaged or of another model
    if found is not None:
        check_resumable(module, *found)
    with folder.running({"data": data.record()}), loggers.closing(make_logger(cfg, folder, group)) as logger:
        trainer.logger = logger
        with stop.patiently():
            trainer.fit(module, data, ckpt_path=folder.found and folder.found[1], weights_only=True)
        metrics = evaluate_last_and_best(trainer, module, data, folder.checkpoints / "best.ckpt")
        folder.finish(metrics)
        with stop.excusing():
            summarize(logger, folder)
    sync = None if group is not None else sync_line(path)  # a sweep's is for all its runs
    return metrics, f"run folder: {os.path.relpath(path)}" + (f"\nsend it to W&B: {sync}" if sync else "")


def make_logger(cfg: DictConfig, folder: RunFolder, group: str | None) -> Logger | None:
    """The logger that `cfg` chooses, for a run folder that is held."""
    with refusing("the logger"):
        return instantiate(cfg.logger)(folder, group)
