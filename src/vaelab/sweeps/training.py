"""The job of a sweep that trains: the run, or the runs of several seeds, of one configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelab.runs.complete import complete_runs, value_of
from vaelab.signals import Stop
from vaelab.sweeps.folder import record_end
from vaelab.sweeps.job import JobSpec, Outcome


@dataclass(eq=False)
class TrainingJob(JobSpec):
    """Trains the run in `path`, in the sweep's folder; `overrides` are those of the job."""

    overrides: Sequence[str] = ()

    @property
    def metric(self) -> str:
        return "val/elbo"

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def place(self) -> Path:
        return self.path.parent

    def work(self, stop: Stop) -> Outcome:
        columns, _ = complete_runs(self.cfg, self.path, self.path.parent.name, stop)
        return Outcome("done", value_of(columns))

    def record(self, outcome: Outcome) -> Outcome:
        return outcome if outcome.state == "done" else record_end(self.path, outcome)
