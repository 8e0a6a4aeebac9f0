"""List run folders: find them, read a row of each, choose among the rows, sort them.

The folders may be untrusted, and their runs may be in any state; see `vaelab.reporting.reading`.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vaelab.errors import RunFolderError
from vaelab.evaluation.comparability import as_text, comparability
from vaelab.evaluation.declared import metric_of
from vaelab.pixels import MEASURES
from vaelab.reporting.reading import Entry, config, listing_damage, status
from vaelab.reporting.settings import parsed
from vaelab.reporting.settings_table import aligned
from vaelab.reporting.values import COLUMNS, is_number
from vaelab.runs.folder.curves import read_curves
from vaelab.runs.folder.identity import BUDGET
from vaelab.runs.folder.names import key_of
from vaelab.runs.tracking.wandb_runs import at
from vaelab.security.redaction import presentable
from vaelab.sweeps.folder import Job, SweepFolder

NUMERIC = (1, 2, 3)  # aligned to the right
BEST_FIRST = ("bound", "epochs", "size", "date")  # sorted from the largest value; the others by the alphabet
BOUND = "val/elbo"
FILES = ("status.json", "record.json")  # a folder with one of these is a run folder; other programs write config.yaml
DEPTH = 3  # levels below the folder at which run folders are looked for


@dataclass
class Listed(Entry):
    """A row: what is listed of one run folder."""

    run: str = ""  # the run folder, relative to the working folder
    bound: float | None = None  # of the last weights in nats; while a run is not done, of its last validation
    epochs: int | None = None
    size: int = 0  # bytes on disk
    date: datetime | None = None  # when the run's state last changed
    data: str = ""  # the data set and its pixels
    comparable: str = ""  # runs in which it is equal have comparable bounds
    known: Mapping[str, Any] = field(default_factory=dict)  # the settings that a run can be found by
    written: int | None = None  # when `status.json` was written, in nanoseconds

    @property
    def setting(self) -> str:
        """The overrides of a job of a sweep that can change its result; empty for a single run."""
        return " ".join(self.told)

    @property
    def problem(self) -> str | None:
        """Why the folder is damaged, or why the run stopped."""
        return "; ".join(dict.fromkeys(self.damage)) or self.error

    @property
    def row(self) -> dict[str, Any]:
        """The row as plain data: size in bytes, bound in nats, date in UTC."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return values | {"date": self.date and self.date.isoformat(timespec="seconds"), "problem": self.problem}

    def matches(self, word: str) -> bool:
        """Return whether `key=value` is a setting of the run, or another word is part of the folder's name."""
        if "=" not in word:
            return word.lower() in f"{self.run} {self.setting}".lower()
        key, value = parsed(word)
        return key in self.known and _typed(self.known[key]) == _typed(value)


def runs_in(folder: Path) -> list[Listed]:
    """Return a row for each run folder in `folder`, in alphabetical order.

    Raises:
        RunFolderError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder: give the one that holds your run folders, folder=logs")
    return [_read(job) for job in _jobs(folder, DEPTH)]


def chosen(
    runs: Sequence[Listed], state: str | None, find: Sequence[str], at_least: float | None, sort: str, best: bool
) -> list[Listed]:
    """Return the rows that match, sorted by a column; rows without a value come last.

    Bounds are compared only where data, split and pixels agree: `sort="bound"` sorts within each of these groups, and
    `best` leaves the best row of each.
    """
    sort = "bound" if best else sort
    found = [run for run in runs if state in (None, run.state) and all(map(run.matches, find))]
    if at_least is not None:
        found = [run for run in found if run.bound is not None and run.bound >= at_least]
    known = [run for run in found if getattr(run, sort) is not None]
    known.sort(key=lambda run: getattr(run, sort), reverse=sort in BEST_FIRST)
    if sort == "bound":
        known.sort(key=lambda run: (run.data, run.comparable))
    if best:
        return list({run.comparable: run for run in reversed(known)}.values())[::-1]
    return known + [run for run in found if getattr(run, sort) is None]


def as_lines(runs: Sequence[Listed]) -> list[str]:
    """Return the rows as a table, one line each, and a line that adds them up."""
    rows = [list(COLUMNS), *(_cells(run) for run in runs)]
    rows = [[" ".join(cell.split()) for cell in row] for row in rows]
    total = f"{counted(runs)}, {in_megabytes(sum(run.size for run in runs))}"
    return [*("  ".join(row).rstrip() for row in aligned(rows, NUMERIC)), total]


def _cells(run: Listed) -> list[str]:
    date = "" if run.date is None else f"{run.date.astimezone():%Y-%m-%d %H:%M}"
    epochs = "" if run.epochs is None else f"{run.epochs:,}"
    told = [override for override in run.told if key_of(override) not in BUDGET]  # the column `epochs` shows it
    unnamed = [override for override in told if override.replace("=", "_") not in run.name]
    said = " ".join(filter(None, [*unnamed, run.problem]))
    numbers = [metric_of(BOUND).shown(run.bound), epochs, in_megabytes(run.size)]
    return [run.state, *numbers, date, run.data, run.run, said]


def counted(runs: Sequence[object]) -> str:
    """Return the number of runs as text."""
    return f"{len(runs):,} run{'' if len(runs) == 1 else 's'}"


def in_megabytes(size: int) -> str:
    """Return a number of bytes as text."""
    return f"{size / 1e6:,.1f} MB"


def _jobs(folder: Path, depth: int) -> Iterator[Job]:
    """Yield the run folders at and below a folder. Follow no links."""
    if any(os.path.lexists(folder / name) for name in FILES):
        yield Job(folder)
    elif depth:
        plan = SweepFolder(folder).known_plan
        for path in sorted(Path(entry) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
            if not path.name.startswith("."):
                for job in _jobs(path, depth - 1):
                    yield replace(job, overrides=tuple(plan.get(job.name, job.overrides)))


def _read(job: Job) -> Listed:
    run = Listed(job.name, job.path, job.overrides, run=os.path.relpath(job.path))
    for part in (_files, status, config, _data, _numbers):
        with listing_damage(job, part.__name__.strip("_"), run.damage):
            part(job, run)
    run.state = "damaged" if run.damage else run.state
    texts = ("name", "overrides", "error", "damage", "run", "data")
    return replace(run, **presentable({name: getattr(run, name) for name in texts}))


def _files(job: Job, run: Listed) -> None:
    run.written = written(job.path)
    run.size = size_of(job.path)
    updated = job.status.get("updated")
    when = datetime.fromtimestamp(job.path.stat().st_mtime) if updated is None else datetime.fromisoformat(updated)
    run.date = when.astimezone(UTC)


def written(folder: Path) -> int | None:
    """Return when `status.json` was written, in nanoseconds; None if there is no such file."""
    with suppress(OSError):
        return (folder / "status.json").lstat().st_mtime_ns
    return None


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder. Follow no links."""
    total = 0
    for file in [path] if path.is_file() else (Path(top, name) for top, _, names in os.walk(path) for name in names):
        with suppress(FileNotFoundError):  # a run that is running may remove a file at any time
            total += file.lstat().st_size
    return total


def _data(job: Job, run: Listed) -> None:
    run.known = run.flat | (at(job.config, "runtime.choices") or {}) | dict(map(parsed, job.overrides))
    if record := job.record.get("data"):
        key = comparability(record, "val", record["sizes"]["val"], MEASURES[record["pixels"]], {})
        run.data = " ".join(filter(None, [key["data"], key["pixels"], key.get("binarize")]))
        run.comparable = as_text(key)


def _numbers(job: Job, run: Listed) -> None:
    if run.state == "done":
        if not (job.config and job.metrics):
            raise RunFolderError("it is done, but has no config.yaml or no metrics.json")
        bound, run.epochs = job.metrics.get(BOUND), _whole(job.metrics.get("epochs"))
    else:
        curve = read_curves(job.path).get(BOUND) or [(0, None)]
        seen, bound = curve[-1]
        run.epochs = _whole(seen and seen / job.record["data"]["sizes"]["train"])
    run.bound = bound if is_number(bound) else None


def _whole(epochs: float | None) -> int | None:
    """Return a number of epochs, of which a begun one counts as a whole one."""
    return None if not epochs else math.ceil(epochs)


def _typed(value: Any) -> str:
    """Return a value as text, in which equal settings are equal however they are typed."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return str(float(value)) if isinstance(value, int | float) else "".join(str(value).split())
