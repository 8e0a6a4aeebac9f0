"""Processes that work together, started by PyTorch's elastic launcher: one for each device, on this machine."""

import logging
import multiprocessing
import os
import pickle
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vaelab.errors import ProcessError
from vaelab.runs.cli import one_line, quieten_console
from vaelab.runs.processes.child import death
from vaelab.runs.processes.cores import launched, threads_of_each
from vaelab.security.redaction import redact
from vaelab.signals import Interrupted, heeding

LAUNCHERS = ("torch.distributed.elastic", "torch.multiprocessing", "torchelastic")  # whose loggers these are
PATIENCE = 600  # seconds that processes have for their checkpoint, after a signal


class _ElsewhereError(Exception):
    """The traceback of another process, for the log."""


def launch(function: Callable[..., Any], num_processes: int, *args: Any) -> Any:
    """Run `function(*args)` in so many processes, which find each other; when one fails, end all.

    After a signal they are told to stop, and waited for; a second Ctrl-C ends them. What the launcher changes in this
    process is put back.

    Args:
        function: of a module, so that another process can import it.
        num_processes: at least two.
        args: what can be pickled.

    Returns:
        What the first process returned.

    Raises:
        Interrupted: a signal told this process to stop, or one of the others.
        ProcessError: one failed; says which, and why.
    """
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith(LAUNCHERS) and isinstance(logger, logging.Logger):
            logger.disabled = True  # it would print tracebacks ahead of our one line
    with (
        TemporaryDirectory(prefix="vaelab-") as folder,
        heeding() as stop,
        _sharing_cores(num_processes),
        _no_survivors(),
    ):
        stop.check()
        try:
            return elastic_launch(_configuration(num_processes, folder), _in_process)(function, Path(folder), *args)[0]
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode > 128:
                raise Interrupted(failure.exitcode - 128) from None
            raise _what_failed(rank, failure, num_processes, Path(folder))  # noqa: B904


def _configuration(num_processes: int, folder: str) -> LaunchConfig:
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=secrets.token_hex(4),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(folder),
        signals_to_handle="",  # ours raise `Interrupted`, at which the launcher sends SIGTERM
        shutdown_timeout=PATIENCE,
    )


def _in_process(function: Callable[..., Any], folder: Path, *args: Any) -> Any:
    launched.set(True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    quieten_console()
    try:
        with heeding(answerable=False):
            return function(*args)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    except Exception as error:
        report = {"rank": int(os.environ["RANK"]), "error": one_line(error), "details": getattr(error, "details", None)}
        report |= {"traceback": redact("".join(traceback.format_exception(error))), "at": time.time()}
        (folder / f"{report['rank']}.report").write_bytes(pickle.dumps(report))
        time.sleep(1)  # if another was killed, which broke our connection, the launcher is to see that one first
        sys.exit(1)


def _what_failed(rank: int, failure: ProcessFailure, num_processes: int, folder: Path) -> ProcessError:
    # in the order in which the processes failed: the first may have made the others fail
    reports = sorted((pickle.loads(path.read_bytes()) for path in folder.glob("*.report")), key=lambda told: told["at"])
    if failure.exitcode < 0 or not reports:
        error = ProcessError(f"process {rank} of {num_processes} {death(failure.exitcode)}")
    else:
        first = reports[0]
        error = ProcessError(f"process {first['rank']} of {num_processes} failed: {first['error']}", first["details"])
    texts = [f"in process {told['rank']}:\n{told['traceback']}" for told in reports]
    error.__cause__ = _ElsewhereError("\n".join(texts)) if texts else None
    return error


@contextmanager
def _sharing_cores(num_processes: int) -> Iterator[None]:
    """Divide the cores among the processes; restore the environment afterwards."""
    former = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = str(threads_of_each(num_processes))
    try:
        yield
    finally:
        for name in os.environ.keys() - former.keys():
            del os.environ[name]
        os.environ.update(former)


@contextmanager
def _no_survivors() -> Iterator[None]:
    """End processes that the block has started and, because of a second signal, not ended."""
    others = set(multiprocessing.active_children())
    try:
        yield
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.kill()
            process.join()
