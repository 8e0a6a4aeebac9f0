"""Run a job in its own process, so that a crash ends only that job."""

import faulthandler
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from vaelab.runs.cli import console, one_line, show_traceback
from vaelab.runs.folder.run_folder import OUTPUT
from vaelab.runs.processes.cores import limit_threads
from vaelab.signals import Interrupted, heeding
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.training.progress import PROGRESS_IN_FILE


def perform(spec: JobSpec, answerable: bool = True) -> Outcome:
    """Run a job in this process, which does nothing else. Send its output to `output.log` in the run folder.

    `answerable` is that of `vaelab.signals.heeding`; it is False in a child process of the sweep's command.

    Raises:
        Interrupted, SystemExit: a signal stopped the job; it can resume.
    """
    os.environ.update({PROGRESS_IN_FILE: "1", **spec.environment})
    os.chdir(spec.cwd)
    if str(spec.cwd) not in sys.path:
        sys.path.append(str(spec.cwd))  # so that classes in the user's folder can be imported
    limit_threads()
    with _output_to(spec.path / OUTPUT), console():
        stop = None
        try:
            with heeding(answerable) as stop:
                return spec.work(stop)
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and stop is not None and stop.asked is not None:
                raise  # another handler of the signal raised it, such as submitit's
            show_traceback(error)
            return spec.record(Outcome("failed", error=one_line(error)))


def perform_or_interrupted(spec: JobSpec, answerable: bool = True) -> Outcome:
    """Run a job as `perform` does, with the same arguments, but return an interruption as an outcome."""
    try:
        return perform(spec, answerable)
    except (Interrupted, KeyboardInterrupt, SystemExit) as error:
        return Outcome("interrupted", error=one_line(error))


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send stdout and stderr to a file, including those of C code and of a crash; remove the file if it is empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    former = [os.dup(number) for number in (1, 2)]
    with path.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        faulthandler.enable(file)
        try:
            yield
        finally:
            faulthandler.disable()
            for number, descriptor in enumerate(former, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        with suppress(FileNotFoundError):
            if path.stat().st_size == 0:
                path.unlink()
