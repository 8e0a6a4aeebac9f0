"""Find the few settings in which the jobs of a sweep differ, and those that all jobs share."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from vaelab.reporting.reading import Entry, as_text
from vaelab.runs.folder.identity import BUDGET, is_control


def assign_settings(entries: Sequence[Entry]) -> list[str]:
    """Set the `settings` of each entry, and return their keys: the table's columns. A missing value is None.

    The overrides that differ come first. Other differences between the stored configurations follow, unless an earlier
    column determines them. A part whose class differs is one column, which stands for everything below it. The seed is
    the last column, because it numbers repetitions of one experiment.
    """
    typed = [dict(parsed(override) for override in entry.overrides) for entry in entries]
    pairs = list(zip(entries, typed, strict=True))
    # configuration of a part → the override that chose it, to label jobs whose overrides are unknown
    labels = {as_text(_below(key, entry)): overrides[key] for entry, overrides in pairs for key in overrides}
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for overrides in typed for key in overrides if key in BUDGET or not is_control(key)):
        values = [_value(key, entry, overrides, labels) for entry, overrides in pairs]
        if len(set(map(as_text, values))) > 1:
            columns[key] = values
    # leave out waiting jobs, because they have no configuration yet
    known = [i for i, entry in enumerate(entries) if entry.flat]
    for key in _differing(entries, columns):
        values = [_value(key, entry, {}, {}) for entry in entries]
        if not ("." in key and any(_determines(before, values, known) for before in columns.values())):
            columns[key] = values
    order = sorted(columns, key=lambda key: key == "seed")
    for i, entry in enumerate(entries):
        entry.settings = {key: columns[key][i] for key in order}
    return order


def shared_settings(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the settings that all stored configurations have in common."""
    first, *others = [entry.flat for entry in entries if entry.flat] or [{}]
    return {
        k: v for k, v in sorted(first.items()) if all(k in flat and as_text(flat[k]) == as_text(v) for flat in others)
    }


def _differing(entries: Iterable[Entry], columns: Iterable[str]) -> list[str]:
    """Return the keys that differ and that no column covers: parts whose class differs, then the shortest paths."""
    flats = [entry.flat for entry in entries if entry.flat]
    keys = {key for flat in flats for key in flat if not any(f"{key}.".startswith(f"{name}.") for name in columns)}
    differing = [key for key in keys if len({as_text(flat.get(key)) for flat in flats}) > 1]
    parts = sorted({key.split(".")[0] for key in differing if key.endswith("._target_")})
    return list(dict.fromkeys([*parts, *sorted(differing, key=lambda key: (key.count("."), key))]))


def _value(key: str, entry: Entry, overrides: Mapping[str, Any], labels: Mapping[str, Any]) -> Any:
    if key in entry.flat:
        return entry.flat[key]
    if key in overrides:
        return overrides[key]
    below = _below(key, entry)
    return labels.get(as_text(below), _label(below)) if below else None


def _below(key: str, entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.flat.items() if name.startswith(f"{key}.")}


def _label(below: Mapping[str, Any]) -> str:
    """Return the names of the classes inside a part, or the name of the part's own class if there are none."""
    classes = {key: str(value).rpartition(".")[2] for key, value in below.items() if key.endswith("_target_")}
    inner = [name for key, name in classes.items() if key.count(".") > 1]
    return " ".join(inner or classes.values())


def _determines(column: Sequence[Any], values: Sequence[Any], known: Sequence[int]) -> bool:
    """Return whether jobs in `known` with equal values in `column` always have equal `values`.

    A column whose value differs in every job, as a seed may, would determine everything. It counts only if `values`
    differ in every job too.
    """
    pairs = {(as_text(column[i]), as_text(values[i])) for i in known}
    distinct = len({first for first, _ in pairs})
    return distinct == len(pairs) and (distinct < len(known) or len({second for _, second in pairs}) == distinct)


def parsed(override: str) -> tuple[str, Any]:
    """Return the key and the value of an override; a value that is not a number stays a text."""
    key, _, text = override.lstrip("+~").partition("=")
    for kind in (int, float):
        with suppress(ValueError):
            return key, kind(text)
    return key, text
