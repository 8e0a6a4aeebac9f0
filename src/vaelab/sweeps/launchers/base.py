"""The contract of a launcher."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence

from vaelab.sweeps.job import JobSpec, Outcome

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
