"""A published experiment, and the lab that trains and measures for it."""

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vaelab.api import Run, run_sweep
from vaelab.errors import ConfigError
from vaelab.files import replacing, write_atomically
from vaelab.reproducing.results import Results, Row
from vaelab.runs.folder.contents import read_json, read_status

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEANS_NOTHING = "This budget only shows that the command works. Its numbers and verdicts mean nothing."
QUIET = ("logger=none", "~callbacks.figures")
K = TypeVar("K")


@dataclass
class Lab:
    """Trains the runs of a reproduction as sweeps, so that the same command finishes what was interrupted.

    Attributes:
        name: the reproduction's.
        budget: the budget's name.
        everywhere: overrides of all runs that cannot change a result, such as the launcher.
        output: folder for the results.
        runs: those that were trained.
        figures, pages, curves, notes: see `Results`.
    """

    name: str
    budget: str
    everywhere: Sequence[str]
    output: Path
    runs: list[Run] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)
    pages: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def sweep(self, part: str, settings: Mapping[K, str], common: str, seeds: int) -> dict[K, list[Run]]:
        """Train each setting with `seeds` seeds, and return its runs.

        Args:
            part: ending of the sweep's folder.
            settings: the overrides of each setting, by a name.
            common: overrides of all settings; those of a setting win.
            seeds: how many.
        """
        lines = ",".join(f"'{line}'" for line in settings.values())
        swept = [f"seed={','.join(map(str, range(seeds)))}", f"hydra.sweeper.settings=[{lines}]"]
        name = f"reproduce-{self.name}-{self.budget}-{part}".rstrip("-")
        runs = run_sweep([*common.split(), *QUIET, *self.everywhere, *swept, f"sweep.name={name}"])
        self.runs += runs
        return {setting: runs[i * seeds : (i + 1) * seeds] for i, setting in enumerate(settings)}

    def draw(self, title: str, figure: "Figure", part: str = "") -> None:
        """Keep a figure as a PNG beside the results."""
        file = self.output / f"{self.name}-{self.budget}{f'-{part}' if part else ''}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as partial:
            figure.savefig(partial, dpi=120, format="png")
        self.figures[title] = file.name

    def publish(self, title: str, page: str) -> None:
        """Keep an HTML page beside the results."""
        file = self.output / f"{self.name}-{self.budget}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, page)
        self.pages[title] = file.name


class Reproduction(ABC):
    """A published experiment.

    Args:
        title: what it is.
        source: who published it, and where.
        budgets: by name: `smoke`, `cpu` and `paper`, each with a `cost` and whatever else `repeat` needs.
        notes: what else must be known.
    """

    def __init__(self, title: str, source: str, budgets: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
        self.title, self.source, self.budgets, self.notes = title, source, budgets, notes

    @abstractmethod
    def repeat(self, lab: Lab, budget: Mapping[str, Any]) -> list[Row]:
        """Train, measure, and return the numbers."""

    def results(self, lab: Lab) -> Results:
        """Repeat the experiment at the lab's budget, and write the results to `lab.output`."""
        if lab.budget not in self.budgets:
            raise ConfigError(f"budget must be one of {', '.join(self.budgets)}, found {lab.budget}: type budget=cpu")
        budget = self.budgets[lab.budget]
        print(f"{self.title}\nbudget {lab.budget}: about {budget['cost']}")
        lab.notes += self.notes
        rows = self.repeat(lab, budget)
        runs = list({run.path: run for run in lab.runs}.values())  # a sweep may continue runs of another
        lab.notes += [MEANS_NOTHING] if lab.budget == "smoke" else []
        results = Results(
            name=lab.name,
            title=self.title,
            source=self.source,
            budget=lab.budget,
            command=f"python -m vaelab.reproduce {lab.name} budget={lab.budget}",
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            machine=machine(runs),
            seeds=sorted({run.config["seed"] for run in runs}),
            runs=len(runs),
            seconds=sum(read_status(run.path).get("seconds", 0.0) for run in runs),
            rows=rows,
            curves=lab.curves,
            figures=lab.figures,
            pages=lab.pages,
            notes=lab.notes,
        )
        file = lab.output / f"{lab.name}-{lab.budget}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file.with_name(f"{file.name}.json"), results.as_json())
        write_atomically(file.with_name(f"{file.name}.md"), results.as_markdown())
        return results


def machine(runs: Sequence[Run]) -> str:
    """Say which processor or GPU, how many threads each run had, and which PyTorch."""
    import torch  # slow to import

    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = sorted({str(read_json(run.path / "record.json")["environment"]["threads"]) for run in runs})
    return (
        f"{processor}, {os.cpu_count()} cores{gpu}, {' or '.join(threads)} threads a run, PyTorch {torch.__version__}"
    )
