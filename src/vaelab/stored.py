"""The files of a run folder: written whole or not at all, read with an error that says what is wrong with them."""

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

FORMAT_VERSION = 1


class RunFolderError(Exception):
    """A run folder that is not what was asked for; the message says what to type instead."""


@contextmanager
def replacing(path: Path, former: Path | None = None) -> Iterator[Path]:
    """Replaces a file whole or not at all: the block writes the path that it is given, which then becomes `path`.

    What `path` was before becomes `former`, if that is given.

    The new content is on the disk before it takes the old one's place, and so is the exchange before the block is left:
    neither a kill nor a power cut leaves anything but one of the two. A block that fails leaves the old one.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a process that was killed; or a link that a stranger's folder came with
    try:
        yield partial
        _synchronise(partial)
        if former is not None and path.exists():
            path.replace(former)
        partial.replace(path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        partial.unlink(missing_ok=True)
        raise
    _synchronise(path.parent)


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: str) -> None:
    """Writes a text file whole or not at all; see `replacing`."""
    with replacing(path) as partial, partial.open("x", encoding="utf-8") as file:
        file.write(content)


def read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if it is not there.

    Raises:
        RunFolderError: not JSON, or not a mapping.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); start over with rerun=true") from error
    if not isinstance(content, dict):
        raise RunFolderError(f"{path} is damaged (not a mapping); start over with rerun=true")
    return content


def read_config(path: Path) -> dict[str, Any]:
    """The configuration that a run folder stores, without its format version.

    Raises:
        RunFolderError: no run folder there, not a mapping, or another format.
    """
    file = path / "config.yaml"
    if not file.exists():
        raise RunFolderError(f"{path} is not a run folder: it has no config.yaml; give run_dir=logs/runs/NAME")
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: not UTF-8
        raise RunFolderError(f"{file} is not plain YAML ({str(error).splitlines()[0]})") from error
    found = config.pop("format_version", None) if isinstance(config, dict) else None
    if found != FORMAT_VERSION:
        raise RunFolderError(
            f"{file} has format_version {found}, expected {FORMAT_VERSION}; start over with rerun=true"
        )
    return config


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds: plain data and tensors, on the CPU.

    Raises:
        RunFolderError: no such file, or not a whole checkpoint.
    """
    import torch

    if not path.exists():
        raise RunFolderError(f"{path} does not exist: train the run first, or choose checkpoint=last or best")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and PyTorch each raise their own
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunFolderError(f"{path} cannot be loaded ({reason}); start over with rerun=true") from error


def environment() -> dict[str, Any]:
    """What a result was made with, for the record."""
    import torch

    packages = ("vaelab", "torch", "pytorch-lightning", "hydra-core", "numpy")
    versions = {name: version(name) for name in packages} | {"python": platform.python_version()}
    return {"versions": versions, "threads": torch.get_num_threads(), "platform": platform.machine()}
