"""One run from its configuration to its metrics: open the run folder, build, fit, evaluate."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer

from vaelab.data import ImageData
from vaelab.estimators import refused
from vaelab.evaluation.metrics import validated
from vaelab.runs.build import build, build_data, make_callbacks, make_trainer
from vaelab.runs.configuration import contents, plain
from vaelab.runs.folder.checkpoint_files import CheckpointFiles
from vaelab.runs.folder.contents import check_same_data, stored_pixels
from vaelab.runs.folder.log import logging_to
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.processes.cores import this_process
from vaelab.runs.processes.distributed import launch
from vaelab.runs.provenance import provenance, warn_of_changed_code
from vaelab.runs.results import Metrics, evaluate_last_and_best
from vaelab.runs.tracking import loggers
from vaelab.runs.tracking.curves import Curves
from vaelab.runs.tracking.wandb_runs import sync_line
from vaelab.runs.validate import logger_nodes, processes_of, refusing
from vaelab.security.checkpoint_scan import check_resumable
from vaelab.security.redaction import redacted
from vaelab.signals import Interrupted, Stop, heeding
from vaelab.training import VAEModule
from vaelab.training.other_callbacks import naming_callbacks
from vaelab.training.step import Together

Parts = tuple[ImageData, VAEModule, Trainer]
log = logging.getLogger(__name__)


def complete(
    cfg: DictConfig, path: Path, group: str | None, stop: Stop, together: Together | None = None, bar: bool = True
) -> tuple[Metrics, str]:
    """Complete the run that `cfg` describes, in this process, or in one process for each of several devices.

    Args:
        group: the sweep's name, for the logger; None for a single run.
        together: takes the training steps of this run together with those of other runs.
        bar: show the progress bar, if the callbacks include one.

    Returns:
        What `metrics.json` holds, and a line that says what was done.
    """
    folder, num_processes = RunFolder(path, plain(cfg), rerun=cfg.runtime.rerun), processes_of(cfg.runtime)
    if folder.finished:
        check_finished(cfg, path, {})
        if folder.given_id is not None:
            folder.adopt_given_id()
            loggers.log_finished(instantiate(cfg.runtime.logger)(folder, group), folder)
        ended = f"a callback ended it: {folder.ended_by}; " if folder.ended_by else ""
        return folder.metrics, f"finished before: {os.path.relpath(path)} ({ended}rerun=true starts over)"
    parts = data, module, _ = make_parts(cfg, path, bar)
    record = {
        "data": data.record(),
        "comparability": module.comparability(data),
        "refused_estimators": sorted(refused(module.vae)),
        "provenance": provenance(contents(cfg), module),
    }
    with folder.running(record, num_processes, check=partial(check_resumable, module)):
        if num_processes == 1:
            metrics, ended_by = fit_and_evaluate(cfg, parts, folder, group, stop, together)
        else:
            metrics, ended_by = launch(complete_share, num_processes, contents(cfg), folder, group, bar)
        folder.finish(metrics, ended_by)
    sync = sync_line(path, [contents(cfg)]) if group is None else None  # a sweep prints one command for all its runs
    return metrics, f"run folder: {os.path.relpath(path)}" + (f"\nsend it to W&B: {sync}" if sync else "")


def check_finished(cfg: DictConfig, path: Path, records: dict[str, Any]) -> None:
    """Refuse the finished run in `path` if its data are others now; warn if its code is.

    Data whose class has `verified = True`, because every file is verified or installed, are not built.
    `records` keeps those of other data, for further runs of the same command.
    """
    pixels = stored_pixels(path)
    if pixels is not None and not getattr(get_object(cfg.data._target_), "verified", False):
        key = f"{pixels} {cfg.runtime.data_dir} {contents(cfg)['data']}"
        if key not in records:
            data = build_data(cfg)
            data.serve(pixels)
            records[key] = redacted(data.record())
        check_same_data(path, records[key])
    warn_of_changed_code(path, contents(cfg))


def make_parts(cfg: DictConfig, path: Path, bar: bool) -> Parts:
    """Build the data, module and trainer of a run. A mistake in `cfg` is refused here."""
    data, module = build(cfg)
    known = [f"val/{name}" for name in validated(module.vae.decoder.head)]
    return data, module, make_trainer(cfg, path, make_callbacks(cfg, bar, known))


def fit_and_evaluate(
    cfg: DictConfig, parts: Parts, folder: RunFolder, group: str | None, stop: Stop, together: Together | None = None
) -> tuple[Metrics, str | None]:
    """Train and evaluate this process's share of the run; return all metrics, and why a callback ended the training."""
    data, module, trainer = parts
    module.together, module.stop = together, stop
    cast(CheckpointFiles, trainer.strategy.checkpoint_io).before_write = folder.begin
    makers = logger_nodes(cfg.runtime) if this_process()[0] == 0 else []
    with refusing("the logger"):
        made = [logger for node in makers if (logger := instantiate(node)(folder, group))]
    with loggers.each_closing(made), naming_callbacks(trainer):
        if this_process()[0] == 0:
            trainer.loggers = [*made, Curves(folder.path, folder.samples_seen, module)]
        with saying_how_to_go_on(module, folder.path):
            with stop.patiently():
                trainer.fit(module, data, ckpt_path=folder.resumed_from, weights_only=True)
            metrics = evaluate_last_and_best(trainer, module, data, folder.path)
        with stop.excusing():
            for logger in made:
                loggers.summarize(logger, metrics, module.comparability(data))
        return metrics, module.ended_by


@contextmanager
def saying_how_to_go_on(module: VAEModule, path: Path) -> Iterator[None]:
    """After a signal, say how far the run was, and what to type."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        where = os.path.relpath(path)
        log.warning("stopped after step %d: type the same command again, and %s goes on", module.steps, where)
        raise


def complete_share(
    config: Mapping[str, Any], folder: RunFolder, group: str | None, bar: bool
) -> tuple[Metrics, str | None]:
    """Do this process's share of the run, while the parent process holds the folder."""
    cfg = OmegaConf.create(dict(config))
    logging.disable()  # the parent process logs the same messages
    parts = make_parts(cfg, folder.path, bar)
    if this_process()[0] == 0:
        logging.disable(logging.NOTSET)
    with logging_to(folder.path / "train.log"), heeding() as stop:
        return fit_and_evaluate(cfg, parts, folder, group, stop)
