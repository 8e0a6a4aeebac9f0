"""A published experiment, and the lab that trains and measures for it."""

import os
import platform
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vaelab.api import Run, Runs, run_sweep
from vaelab.errors import ConfigError
from vaelab.files import replacing, write_atomically
from vaelab.reproducing.results import Results, Row
from vaelab.runs.folder.contents import read_status

if TYPE_CHECKING:  # slow to import
    from matplotlib.figure import Figure

    from vaelab.runs.evaluating.complete import Evaluated

MEANS_NOTHING = "This budget only shows that the command works. Its numbers and verdicts mean nothing."
QUIET = ("logger=none", "~callbacks.figures")
K = TypeVar("K")


@dataclass
class Lab:
    """Trains and evaluates the runs of a reproduction, as sweeps, so that the same command finishes what is left.

    Attributes:
        name: the reproduction's.
        budget: the budget's name.
        everywhere: overrides of all runs and evaluations that cannot change a result, such as the launcher.
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

    def sweep(
        self, part: str, settings: Mapping[K, str], common: str, seeds: int, allow_failed: bool = False
    ) -> dict[K, Runs]:
        """Train each setting with the seeds 0, 1, ..., as one sweep, and return the runs of each setting by its name.

        Args:
            part: a name that tells this sweep from the others of the reproduction; the folder's name ends with it.
            settings: the name of each setting, and its overrides.
            common: the overrides that all settings have. Where both set a value, that of the setting counts.
            seeds: the number of seeds.
            allow_failed: see `vaelab.run_sweep`.
        """
        lines = ",".join(f"'{line}'" for line in settings.values())
        swept = [f"seed={','.join(map(str, range(seeds)))}", f"hydra.sweeper.settings=[{lines}]"]
        name = f"reproduce-{self.name}-{self.budget}-{part.lower().replace(' ', '_')}".rstrip("-")
        line = [*common.split(), *QUIET, *self.everywhere, *swept, f"sweep.name={name}"]
        runs = run_sweep(line, allow_failed=allow_failed)
        if len(runs) != seeds * len(settings):
            raise ConfigError(f"{self.name}: two settings of the sweep {name} are the same run: correct its settings")
        self.runs += [run for run in runs if run.state == "done"]
        return {setting: runs[i * seeds : (i + 1) * seeds] for i, setting in enumerate(settings)}

    def evaluate(self, trained: Mapping[K, Runs], overrides: str) -> "dict[K, list[Evaluated]]":
        """Evaluate the runs of each setting of a sweep, several at a time."""
        everything = [run for runs in trained.values() for run in runs]
        if not everything:
            return {}
        free = [word for word in self.everywhere if not word.startswith("runtime.data_dir=")]  # runs know their own
        found = iter(Runs(everything, everything[0].path.parent).evaluate([*free, *overrides.split()]))
        return {setting: [next(found) for _ in runs] for setting, runs in trained.items()}

    def draw(self, title: str, figure: "Figure", part: str = "") -> None:
        """Write a figure as a PNG into the folder of the results; their page shows it below its title."""
        file = self.output / f"{self.name}-{self.budget}{f'-{part}' if part else ''}.png"
        with replacing(file) as partial:
            figure.savefig(partial, dpi=120, format="png")
        self.figures[title] = file.name

    def publish(self, title: str, page: str) -> None:
        """Write an HTML page into the folder of the results, whose page links to it by its title."""
        file = self.output / f"{self.name}-{self.budget}.html"
        write_atomically(file, page)
        self.pages[title] = file.name


class Reproduction(ABC):
    """A published experiment.

    Args:
        title: what it is.
        source: who published it, and where.
        budgets: by name, `smoke`, `cpu`, and `paper` unless that is `cpu` or is not known; each with a `cost` and
            whatever else `repeat` needs.
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
        check_writable(lab.output)
        print(f"{self.title}\nbudget {lab.budget}: about {budget['cost']}")
        lab.notes += self.notes
        rows = self.repeat(lab, budget)
        runs = lab.runs
        lab.notes += [MEANS_NOTHING] if lab.budget == "smoke" else []
        results = Results(
            name=lab.name,
            title=self.title,
            source=self.source,
            budget=lab.budget,
            command=f"python -m vaelab.reproduce {lab.name} budget={lab.budget}",
            protocol={name: value for name, value in budget.items() if name != "cost"},
            date=max(str(read_status(run.path).get("updated", ""))[:10] for run in runs),
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
        file = lab.output / f"{lab.name}-{lab.budget}.json"
        write_atomically(file, results.as_json())
        results = Results.read(file)  # with its rounded numbers, from which the page follows
        write_atomically(file.with_suffix(".md"), results.as_markdown())
        return results


def check_writable(folder: Path) -> None:
    """Make a folder, and refuse one that cannot be written to."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def machine(runs: Sequence[Run]) -> str:
    """Describe this machine, and how many threads and which PyTorch the runs had."""
    import torch  # slow to import

    processor = platform.processor() or platform.machine()
    with suppress(OSError):  # only Linux has this file
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    recorded = [run.record["environment"] for run in runs]
    threads = " or ".join(sorted({str(each["threads"]) for each in recorded}))
    versions = " or ".join(sorted({each["versions"]["torch"] for each in recorded}))
    return f"{processor}, {os.cpu_count()} cores{gpu}, threads a run: {threads}, PyTorch {versions}"
