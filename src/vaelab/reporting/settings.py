"""What tells the jobs of a sweep from each other, as few columns, and what was held equal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vaelab.reporting.reading import Entry
from vaelab.runs.folder.identity import BUDGET, is_control

LAST = ("seed",)  # replicates, after what they replicate


def settle(entries: Sequence[Entry]) -> list[str]:
    """Gives each entry its `settings`: a value for each column returned, None where it has none.

    Columns are the overrides that differ; then what else differs between the stored configurations and does not follow
    from one of the columns before. A part that is of another class here and there is one column, with all that follows.
    """
    typed = [dict(_parsed(override) for override in entry.overrides) for entry in entries]
    names = dict.fromkeys(key for overrides in typed for key in overrides if key in BUDGET or not is_control(key))
    columns: dict[str, list[Any]] = {}
    for key in names:
        labels = _labels(key, entries, typed)
        values = [_value(key, entry, overrides, labels) for entry, overrides in zip(entries, typed, strict=True)]
        if len(set(map(_text, values))) > 1:
            columns[key] = values
    # a job that waits has no configuration, and nothing to say here
    known = [i for i, entry in enumerate(entries) if entry.flat]
    for key in _candidates(_differing(entries), columns):
        values = [_value(key, entry, {}, {}) for entry in entries]
        if not ("." in key and any(_follows(values, before, known) for before in columns.values())):
            columns[key] = values
    order = sorted(columns, key=lambda key: key in LAST)
    for i, entry in enumerate(entries):
        entry.settings = {key: columns[key][i] for key in order}
    return order


def held_equal(entries: Iterable[Entry]) -> dict[str, Any]:
    """The settings that all stored configurations share."""
    first, *others = [entry.flat for entry in entries if entry.flat] or [{}]
    return {k: v for k, v in sorted(first.items()) if all(k in flat and _text(flat[k]) == _text(v) for flat in others)}


def _differing(entries: Iterable[Entry]) -> list[str]:
    """Dotted keys that differ, those of the fewest parts first."""
    flats = [entry.flat for entry in entries if entry.flat]
    keys = {key for flat in flats for key in flat}
    found = [key for key in keys if len({_text(flat.get(key)) for flat in flats}) > 1]
    return sorted(found, key=lambda key: (key.count("."), key))


def _candidates(differing: Sequence[str], columns: Mapping[str, Any]) -> list[str]:
    """What the columns do not tell; first the parts that are of another class here and there."""
    left = [key for key in differing if not any(key == name or key.startswith(f"{name}.") for name in columns)]
    parts = sorted({key.split(".")[0] for key in left if key.endswith("._target_")})
    return list(dict.fromkeys([*parts, *left]))


def _value(key: str, entry: Entry, overrides: Mapping[str, Any], labels: Mapping[str, Any]) -> Any:
    if key in entry.flat:
        return entry.flat[key]
    if key in overrides:
        return overrides[key]
    below = _below(key, entry)
    return labels.get(_text(below), _label(below)) if below else None


def _labels(key: str, entries: Sequence[Entry], typed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What was typed for a part, by its configuration: for the jobs of which it is not known what was typed."""
    pairs = zip(entries, typed, strict=True)
    return {_text(_below(key, entry)): overrides[key] for entry, overrides in pairs if key in overrides}


def _below(key: str, entry: Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.flat.items() if name.startswith(f"{key}.")}


def _label(below: Mapping[str, Any]) -> str:
    """The class of a part, and those below it that are no trunk."""
    targets = [(key, str(value)) for key, value in below.items() if key.endswith("_target_")]
    told = [value.rpartition(".")[2] for key, value in targets if key.count(".") > 1 and ".trunk." not in key]
    return " ".join(told or [value.rpartition(".")[2] for _, value in targets])


def _follows(values: Sequence[Any], before: Sequence[Any], known: Sequence[int]) -> bool:
    pairs = {(_text(before[i]), _text(values[i])) for i in known}
    kinds = len({first for first, _ in pairs})
    names_each_job = kinds == len(known)  # as a seed may: then anything would follow
    return kinds == len(pairs) and (not names_each_job or len({second for _, second in pairs}) == kinds)


def _parsed(override: str) -> tuple[str, Any]:
    key, _, text = override.lstrip("+~").partition("=")
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    return key, text


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)
