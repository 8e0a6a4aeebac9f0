"""What `vaelab.sweep` asks of a launcher, and how devices and threads are divided among jobs of one machine."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from vaelab.jobs import JobSpec, Outcome

Ended = tuple[int, Outcome]


@runtime_checkable
class JobsLauncher(Protocol):
    """Has jobs done, several at a time, in processes of their own."""

    def run(self, jobs: Sequence[JobSpec]) -> Iterator[Ended | None]:
        """Has the jobs done; yields which of them ended and how, as they end, and None now and then."""
        ...

    def stop(self) -> None:
        """Told while `run` goes on: it begins no more jobs, and ends when those that run have written checkpoints."""
        ...


def number_of(devices: Any) -> int:
    """How many devices, and processes, `trainer.devices` asks for."""
    return int(devices) if isinstance(devices, int | str) else len(devices)
