"""Read the files of a run folder. An error says which file is wrong, and why."""

import json
import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
import yaml

from vaelab.errors import RunFolderError
from vaelab.runs.folder.identity import BUDGET, flatten, is_run_id
from vaelab.runs.processes.cores import threads_of_each
from vaelab.security.checkpoint_scan import check_container, check_format
from vaelab.security.untrusted import CONFIG_LIMIT, JSON_LIMIT, LARGEST, opened, plain_yaml, read_text, reason_of, shown

FORMAT_VERSION = 2
START_OVER = "train it anew with rerun=true"
Check = Callable[[dict[str, Any], Path], None]


def read_json(path: Path) -> dict[str, Any]:
    """Read the mapping in a JSON file; return an empty dict if there is no file. Refuse any other content."""
    try:
        content = json.loads(read_text(path, JSON_LIMIT))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise _damaged(path, reason_of(error)) from error
    if not isinstance(content, dict):
        raise _damaged(path, "not a mapping")
    return content


def read_status(folder: Path) -> dict[str, Any]:
    """Read `status.json`, as `read_json` does. Refuse values that vaelab would not write."""
    path = folder / "status.json"
    status = read_json(path)
    run_id, seconds = status.get("run_id"), status.get("seconds", 0.0)
    if run_id is not None and not is_run_id(run_id):
        raise _damaged(path, f"run_id is {shown(run_id)}, expected the id of a W&B run")
    if not isinstance(ended_by := status.get("ended_by"), str | None):
        raise _damaged(path, f"ended_by is {shown(ended_by)}, expected words")
    if not (_is_number(seconds) and 0 <= seconds < float("inf")):
        raise _damaged(path, f"seconds is {shown(seconds)}, expected a number")
    return status


def read_metrics(folder: Path) -> dict[str, float]:
    """Read `metrics.json`, as `read_json` does. Refuse a value that is not a number."""
    path = folder / "metrics.json"
    metrics = read_json(path)
    for name, value in metrics.items():
        if not (_is_number(value) and name.isprintable()):
            raise _damaged(path, f"{shown(name)} is {shown(value)}, expected a number")
    return metrics


def _damaged(path: Path, reason: str) -> RunFolderError:
    return RunFolderError(f"{path} is damaged ({reason}); {START_OVER}")


def _is_number(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST) or isinstance(value, float)


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration that a run folder stores, without its format version. Refuse all but plain YAML."""
    file = path / "config.yaml"
    try:
        config = plain_yaml(read_text(file, CONFIG_LIMIT))
    except FileNotFoundError as error:
        raise RunFolderError(
            f"{path} is not a run folder: it has no config.yaml; give run_dir=logs/runs/NAME"
        ) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: not UTF-8
        raise RunFolderError(f"{file} is not plain YAML ({reason_of(error)})") from error
    check_format_version(config.pop("format_version", None) if isinstance(config, dict) else None, file)
    flat = flatten(config)
    for key in BUDGET:
        if not (flat.get(key) is None or _is_number(flat[key])):
            raise RunFolderError(f"{file} has {key}={shown(flat[key])}, expected a number; {START_OVER}")
    return config


def check_format_version(found: Any, file: Path) -> None:
    """Refuse a file whose format version is not `FORMAT_VERSION`."""
    if found != FORMAT_VERSION:
        raise RunFolderError(f"{file} has format_version {shown(found)}, expected {FORMAT_VERSION}; {START_OVER}")


def check_same_data(path: Path, record: dict[str, Any] | None) -> None:
    """Refuse data whose record, from `ImageData.record()`, differs from the record of the run in `path`."""
    if (path / "record.json").exists() and read_json(path / "record.json").get("data") != record:
        served = "the data" if record is None else f"data={record['name']}"
        raise RunFolderError(
            f"{path} was trained on data that differ from {served} now; restore the original data, or {START_OVER}, "
            "or beside it with name=NAME (of a sweep, sweep.name=NAME)"
        )


def stored_pixels(path: Path) -> str | None:
    """Return which pixels the run in `path` was trained on; None if `record.json` does not tell."""
    data = read_json(path / "record.json").get("data")
    return data.get("pixels") if isinstance(data, dict) else None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU. Refuse all but plain data and tensors, and tensors larger than the file."""
    try:
        file = opened(path)
    except FileNotFoundError as error:
        there = [name for name in ("last", "best") if path.with_name(f"{name}.ckpt").exists()]
        instead = f'type checkpoint={there[0]}, or weights="{there[0]}" in Python' if there else "train the run first"
        raise RunFolderError(f"{path} does not exist: {instead}") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        try:
            checkpoint = loaded(file, size)
        except Exception as error:  # pickle, zip and PyTorch raise different classes of errors
            raise RunFolderError(f"{path} cannot be loaded ({reason_of(error)}); {START_OVER}") from error
    check_format(checkpoint, size, path)
    return checkpoint


def resumable(folder: Path) -> list[Path]:
    """Return the checkpoints that training may resume from, the first choice first, whether they exist or not."""
    return [folder / "last.ckpt", folder / "previous.ckpt"]


def find_checkpoint(folder: Path, check: Check) -> tuple[Path | None, int, list[str]]:
    """Find the checkpoint that training resumes from: the last, or the previous one if the last is damaged.

    Returns:
        Its path and the training examples seen before it, or None and 0 if there is none; and warnings of damage.
    """
    damage: dict[Path, RunFolderError] = {}
    for path in filter(Path.exists, resumable(folder)):
        try:
            checkpoint = load_checkpoint(path)
        except RunFolderError as error:
            damage[path] = error
        else:
            check(checkpoint, path)
            for damaged in damage:
                damaged.replace(damaged.with_suffix(".damaged"))  # keeps it from becoming previous.ckpt
            reasons = [str(error).removesuffix(f"; {START_OVER}") for error in damage.values()]
            warnings = [f"{reason}; resuming from {path.name}" for reason in reasons]
            return path, checkpoint["counts"]["samples_seen"], warnings
    if damage:
        raise next(iter(damage.values()))
    return None, 0, []


def spare_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that a finished run can do without: all but `best.ckpt`, if that exists."""
    own = folder / "checkpoints"
    if own.is_symlink() or not _is_file(own / "best.ckpt"):
        return []
    spare = [path.with_suffix(ending) for path in resumable(own) for ending in (".ckpt", ".damaged")]
    return [path for path in spare if _is_file(path)]


def remove_spare_checkpoints(folder: Path) -> None:
    """Remove `spare_checkpoints`, after which `best.ckpt` is the only copy of the weights.

    Raises:
        RunFolderError: `best.ckpt` cannot be read; nothing was removed.
    """
    if spare := spare_checkpoints(folder):
        try:
            load_checkpoint(spare[0].with_name("best.ckpt"))
        except RunFolderError as error:
            reason = str(error).removesuffix(f"; {START_OVER}")
            raise RunFolderError(f"{folder} keeps all its checkpoints, because {reason}") from error
        for path in spare:
            path.unlink()


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def loaded(file: BinaryIO | BytesIO, size: int) -> Any:
    """Load what `torch.save` wrote, onto the CPU. Refuse all but plain data and tensors."""
    check_container(file, size)
    try:
        with torch.serialization.safe_globals([bytes]):  # because torch.save stores b"" as a call of `bytes`
            return torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # whose message advises weights_only=False
        raise ValueError("it holds more than tensors and plain data") from error


def environment(num_processes: int = 1) -> dict[str, Any]:
    """Return what a result may depend on: versions, number of processes, threads of each process, platform."""
    packages = ("vaelab", "torch", "pytorch-lightning", "hydra-core", "numpy")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    threads = torch.get_num_threads() if num_processes == 1 else threads_of_each(num_processes)
    return {"versions": versions, "processes": num_processes, "threads": threads, "platform": platform.machine()}


def changes(path: Path, record: dict[str, Any]) -> list[str]:
    """Return a warning for each thing that has changed since the run in `path` began, and that changes its numbers."""
    stored, here = read_json(path / "record.json"), record["environment"]
    classes = record.get("provenance", {}).get("classes", {})
    code = other_code(path, classes, "it goes on with other code than it began with: rerun=true starts over")
    if not isinstance(there := stored.get("environment"), dict):
        return code
    effects = {"threads": "sums may round differently", "processes": "the noise differs from here on"}
    return code + [
        f"the run began with {there[name]} {name}, and now has {here[name]}: {effect}"
        for name, effect in effects.items()
        if there.get(name) not in (None, here[name])
    ]


def stored_classes(path: Path) -> dict[str, str]:
    """Return a hash of the source of each class of the user's own with which the run in `path` was trained."""
    stored = read_json(path / "record.json").get("provenance")
    classes = stored.get("classes") if isinstance(stored, dict) else None
    return classes if isinstance(classes, dict) else {}


def other_code(path: Path, classes: Mapping[str, str], effect: str) -> list[str]:
    """Return a warning if the source of classes of the user's own differs from that in `record.json`."""
    there = stored_classes(path)
    changed = [name for name, here in classes.items() if there.get(name) not in (None, here)]
    return [f"{', '.join(changed)} changed since the run began, so {effect}"] if changed else []


def with_former_code(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a run that goes on, with the provenance of earlier attempts by other code."""
    new, former = record.get("provenance"), read_json(path / "record.json").get("provenance")
    if not isinstance(new, dict) or not isinstance(former, dict):
        return record
    before = former.pop("before", [])
    same = former | {"command": None} == new | {"command": None}  # which may only have a larger budget
    return record | {"provenance": new | {"before": before if same else [*before, former]}}
