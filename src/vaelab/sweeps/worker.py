"""Jobs in processes of their own, forked from a server that has imported everything: a crash ends one job alone."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from vaelab.runs.processes.cores import death, end_with_parent
from vaelab.sweeps.folder import tell_how_it_ended
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.perform import guarded, perform

PRELOADED = [
    "vaelab.sweeps.job",
    "vaelab.training.callbacks",
    "vaelab.runs.tracking.loggers",
    "wandb",
    "matplotlib.backends.backend_agg",
]


def start_server() -> None:
    """Has the server import what jobs need; where there is none, a job imports for itself."""
    if _method() == "forkserver":
        multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()


def _perform(spec: JobSpec) -> Outcome:
    return perform(spec, answerable=False)


@dataclass
class Isolated:
    """A job that runs in a process of its own.

    Args:
        spec: the job.
        work: does it, in that process.
    """

    spec: JobSpec
    work: Callable[[JobSpec], Outcome] = _perform

    def __post_init__(self) -> None:
        context: Any = multiprocessing.get_context(_method())
        self.receiver, sender = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_in_process, args=(self.work, self.spec, dict(os.environ), sender)
        )
        self.process.start()
        sender.close()

    @property
    def sentinel(self) -> int:
        """Ready, for `multiprocessing.connection.wait`, when the job has ended."""
        return self.process.sentinel

    def send(self, number: int) -> None:
        """Sends it a signal."""
        if self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, number)

    def outcome(self, stopping: bool = False) -> Outcome:
        """What became of it; waits for its end. If it was told to stop, it may not have come as far as to say so."""
        try:
            found = self.receiver.recv()
        except EOFError:
            found = None
        self.process.join()
        self.receiver.close()
        if found is None:
            code = self.process.exitcode or 0
            told = stopping and code in (-signal.SIGTERM, -signal.SIGINT, 1)
            found = Outcome("interrupted" if told else "failed", error=f"its process {death(code)}")
            tell_how_it_ended(self.spec.path, found.state, found.error)
        return found


def _in_process(work: Callable[[JobSpec], Outcome], spec: JobSpec, environ: dict[str, str], parent: Connection) -> None:
    os.environ.clear()
    os.environ.update(environ)  # which the server may have from an earlier time
    end_with_parent()
    parent.send(guarded(work, spec))


def _method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
