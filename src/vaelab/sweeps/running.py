"""Run jobs by a launcher, and stop them at a signal."""

from collections.abc import Sequence
from contextlib import closing

from vaelab.signals import heeding
from vaelab.sweeps.job import JobSpec
from vaelab.sweeps.launchers.base import JobsLauncher
from vaelab.sweeps.progress import SweepProgress


def prepare(jobs: Sequence[JobSpec], launcher: JobsLauncher) -> None:
    """Submit the jobs, if the launcher does so, or have it refuse them."""
    if jobs:
        with heeding() as stop, stop.patiently():  # because submitted jobs must be noted
            launcher.prepare(jobs)


def run_jobs(jobs: Sequence[JobSpec], launcher: JobsLauncher, display: SweepProgress) -> None:
    """Run prepared jobs until they have ended, or until a signal has stopped them.

    Raises:
        Interrupted: a signal stopped them.
    """
    stopping = False
    with heeding() as stop, display, stop.patiently(), closing(launcher.run(jobs)) as running:
        for ended in running if jobs else ():
            if ended is not None:
                job, outcome = ended
                job.outcome = job.record(outcome)
                display.ended(job)
            display.refresh()
            display.waiting(launcher.waiting_for())
            if stop.asked is not None and not stopping:
                stopping = True
                launcher.stop()
