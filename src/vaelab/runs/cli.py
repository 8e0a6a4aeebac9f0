"""Turn functions into commands. An error that the user can fix is one line on stderr, and leaves no files behind."""

import functools
import logging
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from vaelab import errors
from vaelab.errors import ConfigError, DataError, message_of
from vaelab.files import FULL
from vaelab.runs.command_line import COMMAND, command_line, hydra_words
from vaelab.runs.configuration import CONF, contents
from vaelab.runs.keys import check_keys, reworded
from vaelab.runs.own_code import failure_of
from vaelab.runs.validate import check_complete
from vaelab.security.redaction import RedactingFormatter, printable, redact
from vaelab.signals import Interrupted, heeding
from vaelab.streams import displayed_output

USAGE = (ConfigError, HydraException, OmegaConfBaseException)  # exit code 2, and Lightning's MisconfigurationException
FAILURE = (DataError, errors.RunFolderError, errors.DivergedError, errors.PointMassError, errors.ProcessError)
FAILURE = (*FAILURE, errors.SweepError, OSError, ImportError)  # exit code 1
# ignored in a spawned child process, because it inherits the value that `_main` sets
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and multiprocessing.parent_process() is None

LIGHTNINGS = ("pytorch_lightning", "lightning_fabric")  # their loggers

log = logging.getLogger(__name__)
speaker: ContextVar[str] = ContextVar("speaker", default="")  # prefix of a warning that names its run, as "seed 3: "


def command(config: str) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Return a decorator that turns a function of the configuration `conf/CONFIG.yaml` into a command."""
    file = Path(CONF, config)

    def decorate(function: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(file.parent), config_name=file.name)
        @functools.wraps(function)
        def task(cfg: DictConfig) -> Any:
            return _call(config, function, cfg)

        @functools.wraps(function)
        def main() -> None:
            with console():
                _main(config, task)

        return main

    return decorate


def _main(config: str, task: Callable[[], Any]) -> None:
    if os.getcwd() not in sys.path and not sys.flags.safe_path:
        sys.path.append(os.getcwd())  # so that classes in the user's folder can be imported
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise errors instead of printing them
    try:
        with heeding():
            os.environ[COMMAND] = command_line(sys.argv)
            sys.argv[1:] = hydra_words(config, sys.argv[1:])
            task()
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    except KeyboardInterrupt as interrupted:  # raised by a part of `vaelab.api` that the command uses
        print(f"vaelab: {interrupted}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except of_lightning("SIGTERMException"):
        sys.exit(128 + signal.SIGTERM)  # Lightning's own exit code would be 0
    except Exception as error:
        ours = fixable(error)
        if WANTS_TRACEBACK or not (ours or raised_while_composing(error)):
            show_traceback(error)
            sys.exit(1)
        exit_with(reworded(config, error) if ours else ConfigError(one_line(error)))


def raised_while_composing(error: BaseException) -> bool:
    """Return whether this is the plain ValueError that Hydra raises for some overrides, such as callbacks=null."""
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    return isinstance(error, ValueError) and "run_job" not in frames


def _call(config: str, function: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
    """Call the function. Report a user's error here, because Hydra would print more than one line."""
    try:
        return call_checked(config, function, cfg)
    except Exception as error:
        if fixable(error) and not WANTS_TRACEBACK:
            exit_with(error)
        raise


def call_checked(config: str, function: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
    """Call the function in the folder where the command was typed, because relative paths start there.

    Keys that nothing reads are refused before.
    """
    hydra_cfg = HydraConfig.get()
    if hydra_cfg.job.chdir:
        os.chdir(hydra_cfg.runtime.cwd)
        log.warning("hydra.job.chdir=true changes nothing: relative paths begin where the command was typed")
    try:
        check_complete(cfg)
        found = contents(cfg)
        check_keys(config, cfg, found)
        return function(OmegaConf.create(found))
    except Exception:
        folder = Path(hydra_cfg.runtime.output_dir)
        if folder.resolve() != Path.cwd():
            with suppress(OSError):  # the folder is not empty, because an earlier run wrote to it
                folder.rmdir()  # Hydra made the folder before it called `task`
        raise


@contextmanager
def console() -> Iterator[None]:
    """Show what is printed, vaelab's warnings, and errors of any package on the terminal, redacted.

    A run's `train.log` has everything. A terminal that is gone stops nothing. Afterwards logging is as it was before.
    """
    with _same_logging_afterwards(), displayed_output(redact):
        if not any(_is_for_console in handler.filters for handler in logging.getLogger().handlers):
            handler = logging.StreamHandler()
            handler.setFormatter(RedactingFormatter("vaelab: %(speaker)s%(message)s"))
            handler.addFilter(_is_for_console)
            logging.getLogger().addHandler(handler)
        for name in LIGHTNINGS:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
        logging.captureWarnings(True)
        logging.raiseExceptions = False  # on a full disk, the write of a result reports the error, not the log
        for name in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
            del os.environ[name]  # an empty variable counts as unset, but not to W&B
        os.environ.setdefault("WANDB_SILENT", "true")
        yield


@contextmanager
def _same_logging_afterwards() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "vaelab", "py.warnings", *LIGHTNINGS)]
    former = [(logger, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    warn, raises = warnings.showwarning, logging.raiseExceptions
    try:
        yield
    finally:
        for logger, level, logger.propagate, logger.handlers[:] in former:
            logger.setLevel(level)
        logging.raiseExceptions = raises
        if warnings.showwarning is not warn:
            logging.captureWarnings(False)


def exit_with(error: Exception) -> NoReturn:
    """Print the error in one line, and exit with code 2 for a usage error or 1 for a failure."""
    print(f"vaelab: {one_line(error)}", file=sys.stderr)
    sys.exit(2 if is_usage(error) else 1)


def is_usage(error: BaseException) -> bool:
    """Return whether the error is in the command line, not in a file that the command line names."""
    failed = isinstance(error, InstantiationException) and isinstance(error.__cause__, (DataError, OSError))
    return isinstance(error, (*USAGE, *of_lightning("MisconfigurationException"))) and not failed


def fixable(error: BaseException) -> bool:
    """Return whether the user can fix what caused an error."""
    return isinstance(error, (*USAGE, *of_lightning("MisconfigurationException"), *FAILURE))


def of_lightning(name: str) -> tuple[type[BaseException], ...]:
    """Return a class of Lightning's exceptions; none before the import of Lightning, which takes seconds."""
    module = sys.modules.get("pytorch_lightning.utilities.exceptions")
    return (getattr(module, name),) if module else ()


def show_traceback(error: BaseException) -> None:
    """Print the traceback of an error, redacted."""
    print(printable(redact("".join(traceback.format_exception(error)))), end="", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, redacted. If Hydra wraps another error, use that error's message."""
    where = ""
    inner: BaseException | None = error
    while isinstance(inner, InterpolationResolutionError):
        inner = inner.__cause__ or inner.__context__
    error = inner if isinstance(inner, ConfigError) else error
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        where = " ".join(line for line in str(error).splitlines() if line.startswith("full_key:"))
        where = f" (in the configuration at {where.removeprefix('full_key: ')})" if where else ""
        error = error.__cause__
        if not isinstance(error, (ConfigError, DataError)) and (own := failure_of(error)):
            return printable(redact(own + where))
    elif not fixable(error):
        where = f" ({type(error).__name__})"
    if isinstance(error, OSError) and error.errno in FULL:
        where = "; nothing is lost: make room, and type the command again"
    return printable(redact(" ".join(message_of(error).split()) + where))


def _is_for_console(record: logging.LogRecord) -> bool:
    record.speaker = speaker.get()
    ours = record.name.split(".")[0] == "vaelab"
    return record.levelno >= (logging.WARNING if ours else logging.ERROR) and not hasattr(record, "for_file_only")
