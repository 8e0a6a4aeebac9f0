"""One job of a sweep: what it is, as plain data that any process can be sent, and how it is done there."""

import faulthandler
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import DictConfig

from vaelab.errors import RunFolderError
from vaelab.runs.cli import one_line, quieten_console, show_traceback
from vaelab.runs.complete import complete_runs, value_of
from vaelab.runs.configuration import plain
from vaelab.runs.folder.run_folder import OUTPUT, RunFolder
from vaelab.runs.processes.seeds import Member, members_of, over_seeds
from vaelab.security.redaction import redacting_output
from vaelab.signals import Interrupted, heeding
from vaelab.sweeps.folder import Job, tell_how_it_ended
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.training.progress import PROGRESS_IN_FILE


def outcome_before(cfg: DictConfig, path: Path) -> Outcome | None:
    """What became of a job before, if nothing is left to do about it; not even to say what is wrong."""
    try:
        members = members_of(cfg, path) if cfg.runtime.seeds > 1 else [Member(cfg, path)]
        folders = [RunFolder(member.path, plain(member.cfg), cfg.runtime.rerun) for member in members]
        if all(folder.finished for folder in folders):
            return Outcome("done", value_of(over_seeds([folder.metrics for folder in folders])))
        failed = [job for folder in folders if (job := Job(folder.path)).state in ("failed", "killed")]
        return Outcome("failed", error=failed[0].error) if failed and not cfg.runtime.retry_failed else None
    except (RunFolderError, ValueError, TypeError, KeyError):
        return None


def perform(spec: JobSpec, answerable: bool = True) -> Outcome:
    """Does a job, in a process that is its own; what it prints goes into `output.log` in its run folder.

    Args:
        spec: the job.
        answerable: whether this process is the one that SLURM started.

    Raises:
        Interrupted: a signal stopped it; the job can go on.
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
                columns, _ = complete_runs(spec.cfg, spec.path, spec.group, stop)
                return Outcome("done", value_of(columns))
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and stop is not None and stop.asked is not None:
                raise  # by whom the signal was handed over to, such as submitit
            show_traceback(error)
            outcome = Outcome("failed", error=one_line(error))
            tell_how_it_ended(spec.path, "failed", outcome.error)
            return outcome


def guarded(work: Callable[[JobSpec], Outcome], spec: JobSpec) -> Outcome:
    """`work(spec)`, where an interruption is an outcome as well."""
    try:
        return work(spec)
    except (Interrupted, KeyboardInterrupt, SystemExit) as error:
        return Outcome("interrupted", error=one_line(error))


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    # of C code and of a crash's last words as well, so the descriptors themselves are pointed there
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    former = [os.dup(number) for number in (1, 2)]
    streams = sys.stdout, sys.stderr
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
