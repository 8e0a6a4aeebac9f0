"""The contract of a launcher."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from vaelab.sweeps.job import JobSpec, Outcome

Ended = tuple[JobSpec, Outcome]


class JobsLauncher(ABC):
    """Run jobs, several at a time, each in its own process."""

    def prepare(self, jobs: Sequence[JobSpec]) -> None:  # noqa: B027
        """Raise ConfigError or SweepError if the jobs cannot be run, before they are added to the plan."""

    @abstractmethod
    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        """Run the jobs; yield each job that has ended with its outcome, and None at short intervals."""

    @abstractmethod
    def stop(self) -> None:
        """Start no more jobs. `run` then ends when the running jobs have written checkpoints."""
