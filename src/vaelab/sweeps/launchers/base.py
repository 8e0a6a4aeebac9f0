"""What `vaelab.sweeps.sweep` asks of a launcher, and how devices and threads are divided among jobs of one machine."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from vaelab.errors import ConfigError
from vaelab.sweeps.job import JobSpec, Outcome

Ended = tuple[int, Outcome]


@runtime_checkable
class JobsLauncher(Protocol):
    """Has jobs done, several at a time, in processes of their own."""

    def prepare(self, jobs: Sequence[JobSpec]) -> None:
        """Looks, before any job is written down or begun, whether they can be.

        Raises:
            ConfigError, SweepError: they cannot.
        """
        ...

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        """Has the jobs done; yields which of them ended and how, as they end, and None now and then."""
        ...

    def stop(self) -> None:
        """Told while `run` goes on: it begins no more jobs, and ends when those that run have written checkpoints."""
        ...


def check_whole(node: str = "hydra.launcher", **options: Any) -> None:
    """Refuses options that must be whole numbers of at least 1, or null.

    Args:
        node: where they stand in the configuration.
        options: name → value.

    Raises:
        ConfigError: names the first that is not.
    """
    for name, value in options.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not (whole or value is None):
            key = f"{node}.{name}"
            raise ConfigError(f"{key} must be a whole number of at least 1, or null, found {value!r}: type {key}=2")
