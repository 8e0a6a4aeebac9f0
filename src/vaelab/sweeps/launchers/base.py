"""The contract of a launcher, and a run of jobs by one."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing

from vaelab.signals import heeding
from vaelab.sweeps.job import JobSpec, Outcome
from vaelab.sweeps.progress import SweepProgress

Running = Generator[tuple[JobSpec, Outcome] | None, None, None]


class JobsLauncher(ABC):
    """Run jobs, several at a time, each in its own process."""

    def prepare(self, jobs: Sequence[JobSpec]) -> None:  # noqa: B027
        """Submit the jobs, or do nothing yet. Raise ConfigError or SweepError if they cannot be run.

        They are added to the plan afterwards.
        """

    @abstractmethod
    def run(self, jobs: Sequence[JobSpec]) -> Running:
        """Run the jobs; yield each job that has ended with its outcome, and None at short intervals.

        The caller closes the generator.
        """

    def waiting_for(self) -> str | None:
        """Return why jobs have not begun, in the cluster's own words; None if none waits, or nobody knows why."""
        return None

    @abstractmethod
    def stop(self) -> None:
        """Start no more jobs. `run` then ends when the running jobs have written checkpoints."""


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
