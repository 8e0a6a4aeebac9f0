"""Run a job, in a process of its own: a crash ends that job alone."""

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from pathlib import Path

import torch

from vaelab.runs.cli import one_line, quieten_console, show_traceback
from vaelab.runs.complete import complete_runs, value_of
from vaelab.runs.folder.run_folder import OUTPUT
from vaelab.runs.processes.child import Child, DiedError
from vaelab.security.redaction import redacting_output
from vaelab.signals import Interrupted, heeding
from vaelab.sweeps.folder import record_end
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.training.progress import PROGRESS_IN_FILE

PRELOADED = [__name__, "vaelab.training.callbacks", "vaelab.runs.tracking.loggers"]
PRELOADED += ["wandb", "matplotlib.backends.backend_agg"]


def perform(spec: JobSpec, answerable: bool = True) -> Outcome:
    """Run a job in this process, which is its own. What it prints goes into `output.log` in its run folder.

    Args:
        spec: the job.
        answerable: whether this process is the one that SLURM started.

    Raises:
        Interrupted, SystemExit: a signal stopped the job, which can go on.
    """
    os.environ.update({PROGRESS_IN_FILE: "1", **spec.environment})
    os.chdir(spec.cwd)
    if str(spec.cwd) not in sys.path:
        sys.path.append(str(spec.cwd))  # for a user's own classes
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with _output_to(spec.path / OUTPUT), redacting_output():
        quieten_console()
        stop = None
        try:
            with heeding(answerable) as stop:
                columns, _ = complete_runs(spec.cfg, spec.path, spec.path.parent.name, stop)
                return Outcome("done", value_of(columns))
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and stop is not None and stop.asked is not None:
                raise  # by a handler of that signal, such as submitit's
            show_traceback(error)
            return record_end(spec.path, Outcome("failed", error=one_line(error)))


def perform_or_interrupted(spec: JobSpec, answerable: bool = True) -> Outcome:
    """Run a job as `perform` does. An interruption is an outcome as well."""
    try:
        return perform(spec, answerable)
    except (Interrupted, KeyboardInterrupt, SystemExit) as error:
        return Outcome("interrupted", error=one_line(error))


def start_server() -> None:
    """Start the process from which workers are forked. It has imported what jobs need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


class Worker(Child):
    """A process that runs one job."""

    def __init__(self, spec: JobSpec) -> None:
        self.spec = spec
        super().__init__(multiprocessing.get_context("forkserver"), _work, spec, dict(os.environ))

    def outcome(self, stopping: bool = False) -> Outcome:
        """Wait for the end of the job; return its outcome.

        Args:
            stopping: whether the process was told to stop. It may have ended too early to say so.
        """
        try:
            return self.answer()
        except DiedError as error:
            told = stopping and self.process.exitcode in (-signal.SIGTERM, -signal.SIGINT, 1)
            return record_end(self.spec.path, Outcome("interrupted" if told else "failed", error=str(error)))


def _work(spec: JobSpec, environ: dict[str, str]) -> Outcome:
    os.environ.clear()  # the server may have that of an earlier sweep
    os.environ.update(environ)
    return perform_or_interrupted(spec, answerable=False)


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    # redirects the descriptors, because C code and the last words of a crash write there
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = sys.stdout, sys.stderr
    for stream in streams:
        stream.flush()
    former = [os.dup(number) for number in (1, 2)]
    with path.open("a", encoding="utf-8", buffering=1) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        sys.stdout = sys.stderr = file
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            sys.stdout, sys.stderr = streams
            for number, descriptor in zip((1, 2), former, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)
        if os.fstat(file.fileno()).st_size == 0:
            path.unlink(missing_ok=True)
