"""Make the logger that writes to a run's folder. W&B is offline by default, and then needs no account."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from csv import DictReader, DictWriter
from pathlib import Path
from typing import Any

import pytorch_lightning.loggers as pl_loggers
from pytorch_lightning.loggers.logger import Logger

from vaelab.evaluation.comparability import Key
from vaelab.files import replacing
from vaelab.runs.folder.contents import read_config, read_status
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.tracking.wandb_runs import define_metrics, logs_to_wandb, tags_of, within
from vaelab.security.redaction import redact, redacted
from vaelab.signals import Interrupted

# send no command line, paths, commit, code or terminal output, because they may hold secrets; send system metrics
NOTHING_PRIVATE = {"x_disable_meta": True, "disable_git": True, "save_code": False, "console": "off"}
log = logging.getLogger(__name__)


def wandb(
    run: RunFolder,
    group: str | None,
    project: str,
    mode: str = "offline",
    entity: str | None = None,
    tags: Sequence[str] | None = (),
    **more: Any,
) -> Logger:
    """Make a W&B run in the run folder. A resumed run keeps its id; the x-axis of curves is `samples_seen`.

    Args:
        group: the sweep's name.
        mode: `offline` (upload later with `wandb sync`), `online` or `disabled`.
        entity: the account; empty for the user's own.
        tags: tags to add to those of `vaelab.runs.tracking.wandb_runs.tags_of`.
        more: other arguments of `wandb.init`, such as `notes`.
    """
    from wandb import Settings, setup

    for name in ("WANDB_DEBUG", "WANDB_CORE_DEBUG"):
        if os.environ.pop(name, None):
            log.warning("%s is ignored, because it makes W&B write the API key into the run folder", name)
    setup(Settings(silent=True))  # before the run, because W&B warns about arguments that Lightning passes
    logging.getLogger("wandb").setLevel(logging.WARNING)  # below this level, debug.log would hold paths and arguments
    logger = pl_loggers.WandbLogger(
        save_dir=run.path,
        id=run.run_id,
        mode=mode,
        config=run.config,
        settings=Settings(silent=True, **NOTHING_PRIVATE),
        reinit="create_new",  # several runs may run at once
        tags=list(dict.fromkeys([*tags_of(run.config), *redacted(list(tags or []))])),
        entity=redacted(entity or None),
        **redacted({"name": run.path.name, "project": project, "group": group, "job_type": "train"} | more),
    )
    define_metrics(logger.experiment)
    for link in run.path.glob("wandb/*run-*/logs/debug-core.log"):  # points into ~/.cache, and so names the home folder
        link.unlink()
    return logger


class CSV(Logger):
    """Writes a table, with a row for each call of `log_metrics`, atomically at every checkpoint and at the end.

    Lightning's own logger rewrites the table in place, and deletes the rows of an earlier attempt.

    Args:
        file: the table. Its rows are kept, except those that training will repeat.
        samples_seen: how many training examples the run had seen where training resumes.
    """

    def __init__(self, file: Path, samples_seen: int) -> None:
        super().__init__()
        self.file = file
        former = DictReader(file.read_text().splitlines()) if file.exists() else []
        rows = [{name: _number(value) for name, value in row.items() if value} for row in former]
        self.rows = {_text(row): row for row in rows if row["step"] <= samples_seen}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        row = {**metrics, "step": step or 0}
        self.rows.setdefault(_text(row), row)  # an evaluation may be repeated after an interruption

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, because the run folder has the hyperparameters."""

    def save(self) -> None:
        self.file.parent.mkdir(exist_ok=True)
        with replacing(self.file) as partial, partial.open("x", newline="", encoding="utf-8") as file:
            writer = DictWriter(file, sorted(set().union(*self.rows.values())))
            writer.writeheader()
            writer.writerows(self.rows.values())

    def finalize(self, status: str) -> None:
        self.save()


def _text(row: dict[str, float]) -> str:
    return repr(sorted(row.items()))


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def csv(run: RunFolder, group: str | None) -> Logger:
    """Make a logger that writes `csv/metrics.csv` in the run folder."""
    return CSV(run.path / "csv" / "metrics.csv", run.samples_seen)


def tensorboard(run: RunFolder, group: str | None) -> Logger:
    """Make a logger that writes TensorBoard's event files in the run folder."""
    return pl_loggers.TensorBoardLogger(run.path, name=None, version="tensorboard")


def none(run: RunFolder, group: str | None) -> None:
    """Make no logger."""


@contextmanager
def closing(logger: Logger | None) -> Iterator[Logger | None]:
    """Finish a W&B run at the end of the `with` block, with its exit code, so that the next job gets its own run."""
    code = 1
    try:
        yield logger
        code = 0
    except Interrupted as told:
        code = told.exit_code
        raise
    finally:
        if isinstance(logger, pl_loggers.WandbLogger):
            try:
                logger.experiment.finish(exit_code=code)
            except Exception as error:  # W&B's own process may have been stopped as well
                if code == 0:
                    raise
                log.warning("W&B did not finish: %s", error)
                from wandb import teardown

                with suppress(Exception):  # W&B would try again at exit, with a traceback, and in the next run
                    teardown(exit_code=code)
            _redact_logs(Path(logger.save_dir or "."))


def log_evaluation(path: Path, metrics: Mapping[str, float], key: Key, mode: str) -> None:
    """Send the metrics of an evaluation, as `evaluation/...`, to the W&B run of the run folder `path`, if any.

    `key` is the evaluation's comparability key, which gives estimates their second names.
    """
    config, status = read_config(path), read_status(path)
    if not logs_to_wandb(config) or "run_id" not in status or mode == "disabled" or (path / "wandb").is_symlink():
        return
    node = config["runtime"]["logger"]
    place = {name: node[name] for name in ("project", "entity") if isinstance(node.get(name), str)}
    tags = [tag for tag in node.get("tags") or [] if isinstance(tag, str)]
    run = RunFolder(path, config)
    with closing(wandb(run, None, mode=mode, tags=tags, **{"project": "vaelab"} | place)) as logger:
        assert logger is not None
        step = int(metrics["samples_seen"])
        named = {f"evaluation/{name}": value for name, value in {**metrics, **within(key, metrics)}.items()}
        logger.log_metrics(named | {"samples_seen": step}, step=step)


def _redact_logs(path: Path) -> None:
    for file in path.glob("wandb/*run-*/logs/*.log"):
        text = "" if file.is_symlink() else file.read_text(encoding="utf-8", errors="replace")
        if (written := redact(text)) != text:
            file.write_text(written, encoding="utf-8")
