"""Log a run to W&B, offline by default, which needs no account."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning.loggers as pl_loggers
from pytorch_lightning.loggers.logger import Logger

from vaelab.evaluation.comparability import Key
from vaelab.runs.folder.contents import read_config, read_json, read_status
from vaelab.runs.folder.run_folder import RunFolder
from vaelab.runs.tracking.wandb_options import LONGEST_TAG, MODES, checked, fitting
from vaelab.runs.tracking.wandb_runs import BEST, define_metrics, logs_to_wandb, tags_of, within
from vaelab.security.redaction import redact, redacted
from vaelab.signals import Interrupted

# send no command line, paths, commit, code or terminal output, because they may hold secrets; send system metrics
NOTHING_PRIVATE = {"x_disable_meta": True, "disable_git": True, "save_code": False, "console": "off"}
log = logging.getLogger(__name__)


def wandb_run(run: RunFolder, group: str | None, options: dict[str, Any], sweep_id: str | None = None) -> Logger:
    """Make a W&B run in the run folder; `options` are `checked`. A trial of `wandb agent` has a `sweep_id`."""
    from wandb import Settings, setup

    for name in ("WANDB_DEBUG", "WANDB_CORE_DEBUG"):
        if os.environ.pop(name, None):
            log.warning("%s is ignored, because it makes W&B write the API key into the run folder", name)
    # first, because W&B warns of arguments that Lightning passes
    setup(Settings(silent=True)).settings.sweep_id = None  # with it W&B would ignore our id and project
    logging.getLogger("wandb").setLevel(logging.WARNING)  # at lower levels, debug.log holds paths and arguments
    tags = [*tags_of(run.config), *(fitting(str(tag), LONGEST_TAG) for tag in options.get("tags", ()) if tag != "")]
    names = {"name": run.path.name, "group": group, "job_type": "train"} | options
    fixed = {
        "id": run.run_id,
        "config": run.config,
        "settings": Settings(silent=True, sweep_id=sweep_id, **NOTHING_PRIVATE),
        "reinit": "create_new",  # several runs may run at once
        "tags": list(dict.fromkeys(tags)),
        **{key: fitting(names[key]) for key in ("name", "group", "job_type") if names[key] is not None},
    }
    others = redacted({"project": "vaelab", "mode": MODES[0]} | options)
    # absolute, because W&B's own process may have another working folder
    place = {"save_dir": Path(options.get("dir", run.path)).expanduser().absolute(), "dir": None}
    logger = pl_loggers.WandbLogger(**others | place | fixed)
    define_metrics(logger.experiment)
    (_logs_of(logger.experiment) / "debug-core.log").unlink(missing_ok=True)  # a link into ~/.cache, the home folder
    return logger


def _logs_of(wandb_run: Any) -> Path:
    """Return the folder of W&B's own logs of a run."""
    return Path(wandb_run.dir).with_name("logs")


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
            _redact_logs(_logs_of(logger.experiment))


@contextmanager
def each_closing(loggers: Sequence[Logger]) -> Iterator[None]:
    """Finish every W&B run among the loggers, as `closing` does."""
    with ExitStack() as stack:
        for logger in loggers:
            stack.enter_context(closing(logger))
        yield


def log_finished(logger: Logger | None, run: RunFolder) -> None:
    """Send the final metrics of a finished run again, because a W&B run that does not have them was asked for."""
    with closing(logger):
        if logger is not None:
            # a search of W&B's looks for its metric in the history
            logger.log_metrics(run.metrics, step=int(run.metrics["samples_seen"]))
            summarize(logger, run.metrics, read_json(run.path / "record.json")["comparability"])


def summarize(logger: Logger | None, metrics: Mapping[str, float], key: Key) -> None:
    """Write the final metrics into W&B's summary of a finished run, under the same names.

    Metrics in `BEST` have two values there: `last`, of the final weights, and `max` or `min`, over all validations.
    Estimates of log p(x) have two names; see `within`. `key` is the comparability key of the test.
    """
    if not isinstance(logger, pl_loggers.WandbLogger) or logger.experiment.disabled:
        return
    summary = logger.experiment.summary
    final: dict[str, Any] = dict(metrics)
    for name, best in BEST.items():
        if name in metrics:
            # the best weights may be from an earlier attempt of this run, whose values W&B does not know
            known = [metrics[name], metrics.get(f"best/{name}"), (summary.get(name) or {}).get(best.__name__)]
            final[name] = {"last": metrics[name], best.__name__: best(value for value in known if value is not None)}
    summary.update(final | within(key, metrics))


def log_evaluation(path: Path, metrics: Mapping[str, float], key: Key, mode: str) -> None:
    """Send the metrics of an evaluation, as `evaluation/...`, to the W&B run of the run folder `path`, if any.

    Those of a model with a fitted prior are `fitted_prior/...`, because W&B's panels show runs by the names of metrics.
    `key` is the evaluation's comparability key, which gives estimates their second names.
    """
    config, status = read_config(path), read_status(path)
    place = os.environ.get("WANDB_DIR")  # not the stored one, because the folder may be a stranger's
    ours = path / "wandb"
    if not logs_to_wandb(config) or "run_id" not in status or mode == "disabled" or (not place and ours.is_symlink()):
        return
    node = config["runtime"]["logger"]
    names = ("project", "entity", "name", "group", "job_type")
    stored = {name: node[name] for name in names if isinstance(node.get(name), str)}
    tags = [tag for tag in node.get("tags") or [] if isinstance(tag, str)]
    run = RunFolder(path, config)
    with closing(wandb_run(run, None, checked({"mode": mode, "tags": tags, "dir": place, **stored}))) as logger:
        assert logger is not None
        step = int(metrics["samples_seen"])
        kind = "fitted_prior" if "fitted_prior" in key else "evaluation"
        named = {f"{kind}/{name}": value for name, value in {**metrics, **within(key, metrics)}.items()}
        logger.log_metrics(named | {"samples_seen": step}, step=step)


def _redact_logs(path: Path) -> None:
    for file in path.glob("*.log"):
        text = "" if file.is_symlink() else file.read_text(encoding="utf-8", errors="replace")
        if (written := redact(text)) != text:
            file.write_text(written, encoding="utf-8")
