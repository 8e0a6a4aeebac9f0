"""Jobs in processes of their own, forked from a server that has imported everything: a crash ends one job alone."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import forkserver

from vaelab.runs.processes.child import Child, DiedError
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


class Isolated(Child):
    """A job that runs in a process of its own.

    Args:
        spec: the job.
        work: does it, in that process.
    """

    def __init__(self, spec: JobSpec, work: Callable[[JobSpec], Outcome] = _perform) -> None:
        self.spec = spec
        super().__init__(multiprocessing.get_context(_method()), _in_process, work, spec, dict(os.environ))

    def outcome(self, stopping: bool = False) -> Outcome:
        """Wait for its end, and say what became of it; told to stop, it may not have come as far as to say so."""
        try:
            return self.answer()
        except DiedError as error:
            told = stopping and self.process.exitcode in (-signal.SIGTERM, -signal.SIGINT, 1)
            found = Outcome("interrupted" if told else "failed", error=str(error))
            tell_how_it_ended(self.spec.path, found.state, found.error)
            return found


def _in_process(work: Callable[[JobSpec], Outcome], spec: JobSpec, environ: dict[str, str]) -> Outcome:
    os.environ.clear()
    os.environ.update(environ)  # which the server may have from an earlier time
    return guarded(work, spec)


def _method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
