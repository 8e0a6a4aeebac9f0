"""Where curves go: a logger for one run, made from its folder. W&B offline by default; no account needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from csv import DictReader
from typing import Any

import pytorch_lightning.loggers as pl_loggers
from pytorch_lightning.loggers.logger import Logger

from vaelab.run import RunFolder


def wandb(run: RunFolder, group: str | None, project: str, mode: str = "offline", **kwargs: Any) -> Logger:
    """A W&B run of its own in the run folder, under an id that an interrupted run keeps; x = samples seen.

    Args:
        group: the sweep's name.
        mode: `offline` (synchronise later with `wandb sync`), `online` or `disabled`.
        kwargs: more arguments of `wandb.init`, such as `entity` or `tags`.
    """
    from wandb import Settings, setup

    setup(Settings(silent=True))  # before Lightning passes what W&B warns of
    logger = pl_loggers.WandbLogger(
        save_dir=run.path,
        id=run.run_id,
        name=run.path.name,
        project=project,
        group=group,
        job_type="train",
        mode=mode,
        config=run.config,
        settings=Settings(silent=True),
        reinit="create_new",  # several runs may be under way
        **kwargs,
    )
    logger.experiment.define_metric("samples_seen")
    logger.experiment.define_metric("*", step_metric="samples_seen")
    return logger


def csv(run: RunFolder, group: str | None) -> Logger:
    """`csv/metrics.csv` in the run folder; a run that goes on keeps the rows of before (Lightning deletes them)."""
    file = run.path / "csv" / "metrics.csv"
    former = list(DictReader(file.read_text().splitlines())) if file.exists() else []
    logger = pl_loggers.CSVLogger(run.path, name=None, version="csv")
    logger.experiment.metrics += [{name: value for name, value in row.items() if value} for row in former]
    logger.save()
    return logger


def tensorboard(run: RunFolder, group: str | None) -> Logger:
    """TensorBoard's event files in the run folder."""
    return pl_loggers.TensorBoardLogger(run.path, name=None, version="tensorboard")


def none(run: RunFolder, group: str | None) -> None:
    """No curves."""


@contextmanager
def closing(logger: Logger | None) -> Iterator[Logger | None]:
    """Finishes a W&B run with the exit code that the block deserves, so that the next job gets one of its own."""
    code = 1
    try:
        yield logger
        code = 0
    finally:
        if isinstance(logger, pl_loggers.WandbLogger):
            logger.experiment.finish(exit_code=code)
