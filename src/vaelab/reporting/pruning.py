"""Remove checkpoints that finished runs do without, or whole run folders, after asking."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from vaelab.errors import ConfigError, RunFolderError
from vaelab.reporting.listing import Listed, counted, in_megabytes, size_of, written
from vaelab.reporting.values import NEEDLESS
from vaelab.runs.folder.contents import remove_spare_checkpoints, spare_checkpoints


@dataclass(frozen=True)
class Pruning:
    """What is removed of one run: its folder, or files in it."""

    run: Listed
    paths: Sequence[Path]

    @property
    def size(self) -> int:
        return sum(map(size_of, self.paths))

    def remove(self) -> None:
        """Remove it, while this process holds the run's lock.

        Raises:
            RunFolderError: another process holds the lock or has changed the run since it was listed, the files cannot
                be removed, or `best.ckpt` cannot be read.
        """
        try:
            with FileLock(self.run.path / ".lock").acquire(timeout=0):
                if written(self.run.path) != self.run.written:
                    raise RunFolderError(f"{self.run.run} has changed meanwhile")
                remove = shutil.rmtree if self.paths == [self.run.path] else remove_spare_checkpoints
                remove(self.run.path)
        except Timeout as error:
            raise RunFolderError(f"{self.run.run} is in use") from error
        except OSError as error:
            raise RunFolderError(f"{self.run.run} cannot be removed ({error})") from error


def planned(runs: Sequence[Listed], what: str) -> list[Pruning]:
    """Return what to remove: `checkpoints` of runs that are done, or `folders` of runs that neither run nor wait."""
    if what == "checkpoints":
        found = [Pruning(run, spare_checkpoints(run.path)) for run in runs if run.state == "done"]
    else:
        found = [Pruning(run, [run.path]) for run in runs if run.state not in ("running", "waiting")]
    return [pruning for pruning in found if pruning.paths]


def prune(runs: Sequence[Listed], what: str, yes: bool) -> str:
    """Show what will go, ask, and remove it; return a line that says what was done.

    Raises:
        ConfigError: nobody can be asked.
        RunFolderError: some runs were left alone.
    """
    prunings = planned(runs, what)
    sizes = [pruning.size for pruning in prunings]
    for pruning, size in zip(prunings, sizes, strict=True):
        names = "" if what == "folders" else ": " + ", ".join(path.name for path in pruning.paths)
        print(f"{in_megabytes(size):>12}  {pruning.run.run}{names}")
    if not prunings:
        return f"nothing to remove: no run that {NEEDLESS[what]} matches"
    total = f"{what} of {counted(prunings)}, {sum(sizes):,} bytes"
    if not (yes or _agreed(f"remove the {total}? [y/N] ")):
        return "nothing was removed"
    failures = []
    for pruning in prunings:
        try:
            pruning.remove()
        except RunFolderError as error:
            failures.append(str(error))
    if failures:
        raise RunFolderError(f"{len(failures)} of {len(prunings)} runs were left alone: {'; '.join(failures)}")
    return f"removed: {total}"


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError("nobody can be asked, because the input is not a terminal: type yes=true to remove them")
    return input(question).strip().lower() in ("y", "yes")
