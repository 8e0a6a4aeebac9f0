"""The protocol of a launcher."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from vaelab.errors import ConfigError
from vaelab.sweeps.job import JobSpec, Outcome

Ended = tuple[int, Outcome]


@runtime_checkable
class JobsLauncher(Protocol):
    """Run jobs, several at a time, in processes of their own."""

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        """Raise ConfigError or SweepError if the jobs cannot be run, before any is written down."""
        ...

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        """Run the jobs; yield the number and the outcome of each job as it ends, and None now and then."""
        ...

    def stop(self) -> None:
        """Begin no more jobs, and have `run` end when the jobs that run have written checkpoints."""
        ...


def check_whole(node: str = "hydra.launcher", **options: Any) -> None:
    """Refuse options of a node of the configuration that are not null or a whole number of at least 1.

    Raises:
        ConfigError: names the first that is not.
    """
    for name, value in options.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not (whole or value is None):
            key = f"{node}.{name}"
            raise ConfigError(f"{key} must be a whole number of at least 1, or null, found {value!r}: type {key}=2")
