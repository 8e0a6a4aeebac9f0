"""Find the few settings in which the jobs of a sweep differ, and those that all jobs share."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from vaelab.evaluation.comparability import as_text
from vaelab.reporting.reading import Entry
from vaelab.reporting.values import is_number
from vaelab.runs.folder.names import key_of


def assign_settings(entries: Sequence[Entry]) -> list[str]:
    """Set the `settings` of each entry, and return their keys: the table's columns. A missing value is None.

    The overrides that differ come first. Other differences between the stored configurations follow, unless they are
    derived: copies of an earlier column, or values below a part that follow from the column of its class. The seed is
    the last column, because it numbers repetitions of one experiment.
    """
    typed = [dict(map(parsed, entry.told)) for entry in entries]
    pairs = list(zip(entries, typed, strict=True))
    # configuration of a part → the override that chose it, to label jobs whose overrides are unknown
    labels = {as_text(_below(key, entry)): overrides[key] for entry, overrides in pairs for key in overrides}
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(key for overrides in typed for key in overrides):
        values = [_value(key, entry, overrides, labels) for entry, overrides in pairs]
        if len(set(map(as_text, values))) > 1:
            columns[key] = values
    # leave out waiting jobs, because they have no configuration yet
    known = [i for i, entry in enumerate(entries) if entry.flat]
    for key in _differing(entries, columns):
        values = [_value(key, entry, {}, {}) for entry in entries]
        if not any(_gives(name, columns[name], key, values, known) for name in columns):
            columns[key] = values
    order = sorted(columns, key=lambda key: key == "seed")
    for i, entry in enumerate(entries):
        entry.settings = {key: columns[key][i] for key in order}
    return order


def confounded(entries: Sequence[Entry], columns: Sequence[str]) -> list[str]:
    """Return a sentence for each setting that never varies while another is held: their effects cannot be told apart.

    The seed is left out, because it numbers repetitions. So are a part and a value within it, and numbers of which the
    values of the other setting take turns, because a trend tells these apart; a random search draws such numbers.
    """
    known = [entry.settings for entry in entries if entry.flat]
    sentences, joined = [], set()
    for first, second in combinations([name for name in columns if name != "seed"], 2):
        pairs = list({as_text([each[first], each[second]]): (each[first], each[second]) for each in known}.values())
        counts = [len({as_text(pair[side]) for pair in pairs}) for side in (0, 1)]
        if min(counts) == 1 or len(pairs) not in counts or second in joined or second.startswith(f"{first}."):
            continue
        leads, follows = (first, second) if counts[0] == len(pairs) else (second, first)
        if not _take_turns(pairs if leads == first else [(b, a) for a, b in pairs]):
            joined.add(follows)
            why = "so a difference between these jobs may come from either"
            sentences.append(f"{follows} only changes where {leads} does, {why}")
    return sentences


def _take_turns(pairs: Sequence[tuple[Any, Any]]) -> bool:
    """Return whether the second values alternate, or rise and fall, while the first ones, if they are numbers, rise."""
    if not all(is_number(lead) for lead, _ in pairs):
        return False
    values = [value for _, value in sorted(pairs, key=lambda pair: pair[0])]
    if all(map(is_number, values)):
        return values not in (sorted(values), sorted(values, reverse=True))
    return sum(a != b for a, b in pairwise(values)) >= len(set(map(as_text, values)))


def shared_settings(entries: Iterable[Entry]) -> dict[str, Any]:
    """Return the settings that all stored configurations have in common."""
    first, *others = [entry.flat for entry in entries if entry.flat] or [{}]
    return {
        k: v for k, v in sorted(first.items()) if all(k in flat and as_text(flat[k]) == as_text(v) for flat in others)
    }


def setting_text(name: str, value: Any) -> str:
    """Return `name=value`, or the value alone if the name is empty; a missing value is a dash."""
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else value
    text = text if isinstance(text, str) else json.dumps(text, default=str)
    return f"{name}={text}" if name else text


def label_of(settings: Mapping[str, Any]) -> str:
    """Return settings as text, such as `decoder=gaussian, latent_dim=10`, without the seed."""
    return ", ".join(setting_text(name, value) for name, value in settings.items() if name != "seed") or "all jobs"


def setting_of(entry: Entry) -> str:
    """Return a text that is equal for jobs that differ only in their seed."""
    return as_text({name: value for name, value in entry.flat.items() if name != "seed"})


def settings_of(entries: Sequence[Entry]) -> dict[Path, str]:
    """Return `setting_of` each job, by its folder.

    The overrides tell the setting of a job that ended before it stored its configuration, if another job has the same.
    """
    typed = {entry.path: as_text(sorted(each for each in entry.told if key_of(each) != "seed")) for entry in entries}
    known = {typed[entry.path]: setting_of(entry) for entry in entries if entry.flat and entry.overrides}
    return {
        e.path: setting_of(e) if e.flat else known.get(typed[e.path] if e.overrides else "", e.name) for e in entries
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


def _gives(name: str, column: Sequence[Any], key: str, values: Sequence[Any], known: Sequence[int]) -> bool:
    """Return whether the column `name` already says what `values` say: as equal ones, or as the part that `key` is in.

    Only the jobs in `known` count.
    """
    pairs = {(as_text(column[i]), as_text(values[i])) for i in known}
    within = key.startswith(f"{name}.") and len({first for first, _ in pairs}) == len(pairs)
    return within or all(first == second for first, second in pairs)


def parsed(override: str) -> tuple[str, Any]:
    """Return the key and the value of an override; a value that is not a number stays a text."""
    key, _, text = override.lstrip("+~").partition("=")
    for kind in (int, float):
        with suppress(ValueError):
            return key, kind(text)
    return key, text
