"""Read the sides of a comparison: run folders, the seeds of one setting, or all settings of a sweep.

The folders may be untrusted, and their jobs may be in any state; see `vaelab.reporting.reading`.
"""

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vaelab.errors import ConfigError, RunFolderError
from vaelab.evaluation.comparability import as_text
from vaelab.reporting.reading import Entry, read
from vaelab.reporting.settings import assign_settings, label_of, setting_text, settings_of
from vaelab.security.redaction import presentable
from vaelab.sweeps.folder import Job, SweepFolder


@dataclass(frozen=True)
class Side:
    """Runs that are compared as one: of a single setting, each with a seed of its own."""

    typed: str  # the folder or pattern that named them
    entries: list[Entry]  # the runs, at least one

    @property
    def label(self) -> str:
        """The settings that differ between the sides."""
        return label_of(self.entries[0].settings)


def sides_of(runs: Sequence[str]) -> list[Side]:
    """Return the sides that folders and patterns name, two or more; set the settings of their entries.

    A run folder is a side, and so are all folders that match a pattern. A sweep's folder has a side for each setting.

    Raises:
        ConfigError: there are fewer than two sides, or a pattern matches several settings.
        RunFolderError: there is no such folder, or a run is named twice.
    """
    sides = [side for typed in dict.fromkeys(runs) for side in _read(typed)]
    if len(sides) < 2:
        found = f"one in {sides[0].typed}" if sides else "none"
        raise ConfigError(f"a comparison needs two or more settings or runs, found {found}: type runs=[A,B]")
    for side in sides:
        _check_one_setting(side)
    where = Counter(entry.path.resolve() for side in sides for entry in side.entries)
    if twice := [path for path, count in where.items() if count > 1]:
        raise RunFolderError(f"{twice[0]} is on two sides of the comparison: name each run once")
    assign_settings([entry for side in sides for entry in side.entries])
    if len({side.label for side in sides}) < len(sides):  # the settings do not tell all sides apart
        for side in sides:
            for entry in side.entries:
                entry.settings["runs"] = side.typed
    return sides


def _read(typed: str) -> list[Side]:
    """Read the sides that one folder or pattern names."""
    path, name = Path(typed), presentable(typed)
    if (path / "config.yaml").exists():
        return [Side(name, [_run(path)])]
    if path.is_dir():
        by_setting: dict[str, list[Entry]] = {}
        entries = list(map(read, SweepFolder(path).jobs()))
        settings = settings_of(entries)
        for entry in sorted(entries, key=lambda entry: not entry.flat):  # a stored configuration tells the label best
            by_setting.setdefault(settings[entry.path], []).append(entry)
        if not by_setting:
            raise RunFolderError(f"{typed} holds no runs: give the folder of a run or of a sweep")
        return [Side(name, entries) for entries in by_setting.values()]
    found = [each for each in map(Path, sorted(glob.glob(typed))) if (each / "config.yaml").exists()]
    entries = [_run(each) for each in found if ".old" not in each.suffix]
    if not entries:
        raise RunFolderError(
            f"{typed} is no folder, and no run folder matches it: give folders or patterns, runs=[A,B]"
        )
    return [Side(name, entries)]


def _run(path: Path) -> Entry:
    """Read a run folder, with its overrides if it is a sweep's."""
    return read(Job(path, tuple(SweepFolder(path.parent).known_plan.get(path.name, ()))))


def _check_one_setting(side: Side) -> None:
    """Refuse a side whose runs differ in more than their seed, or of which two are the same run."""
    first, *others = [entry for entry in side.entries if entry.flat] or side.entries
    for other in others:
        keys = [k for k in {**first.flat, **other.flat} if as_text(first.flat.get(k)) != as_text(other.flat.get(k))]
        if differing := sorted(set(keys) - {"seed"}, key=lambda key: (key.count("."), key)):
            values = " and ".join(setting_text("", entry.flat.get(differing[0])) for entry in (first, other))
            raise ConfigError(
                f"{side.typed} matches runs of several settings, which differ in {differing[0]} ({values}): narrow the "
                "pattern, or compare all settings of a sweep by its folder"
            )
    paths = {as_text(entry.flat): entry.path for entry in reversed(side.entries) if entry.flat}
    if copies := [entry for entry in side.entries if entry.flat and paths[as_text(entry.flat)] != entry.path]:
        raise ConfigError(f"{side.typed} has the same run twice, once as {copies[0].name}: move one of them away")
