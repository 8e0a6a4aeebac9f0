"""Processes that evaluate together, started by PyTorch's elastic launcher: one for each device, on this machine."""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from vaelab.cli import one_line, quieten_console
from vaelab.interrupts import Interrupted, heeding
from vaelab.processes import ProcessError, cores, launched


def launch(function: Callable[..., Any], num_processes: int, *args: Any) -> Any:
    """Runs `function(*args)` in so many processes, which find each other; when one fails, all are ended.

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
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=num_processes,
        run_id=secrets.token_hex(4),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        start_method="spawn",
    )
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if name.startswith("torch.distributed.elastic") and isinstance(logger, logging.Logger):
            logger.disabled = True  # it would print tracebacks ahead of our one line
    with heeding() as stop, _sharing_cores(num_processes):
        try:
            return elastic_launch(config, _in_process)(function, *args)[0]
        except SignalException as error:
            raise Interrupted(error.sigval.value) from error
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode > 128:
                raise Interrupted(failure.exitcode - 128) from error
            reason: Any = failure.message
            reason = reason["message"] if isinstance(reason, dict) else reason
            raise ProcessError(f"process {rank} of {num_processes} failed: {reason}") from error
        finally:
            stop.install()  # the launcher has taken the signals


@record
def _in_process(function: Callable[..., Any], *args: Any) -> Any:
    launched.set(True)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    quieten_console()
    try:
        with heeding(answerable=False):
            return function(*args)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_code)
    except Exception as error:
        raise ProcessError(one_line(error)) from error


@contextmanager
def _sharing_cores(num_processes: int) -> Iterator[None]:
    former = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = former or str(max(1, cores() // num_processes))
    try:
        yield
    finally:
        if former is None:
            del os.environ["OMP_NUM_THREADS"]
