"""Evaluations that a run folder keeps, example by example, so that one that was interrupted goes on: `evaluations/`."""

import hashlib
import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from vaelab.errors import RunFolderError
from vaelab.evaluation.per_example import Records
from vaelab.files import replacing
from vaelab.security.untrusted import opened

LIMIT = 2**30  # bytes
SECONDS = 5.0  # between two writes, at least
LAYOUT = "blocks"  # for each: number, part, and how many values it has of each name, in alphabetical order
Key = tuple[int, int]
Needed = Mapping[Key, tuple[int, Collection[str]]]

log = logging.getLogger(__name__)


class KeptEvaluation:
    """The values of one evaluation, in `evaluations/NAME.safetensors` of a run folder.

    While it is under way, each process writes all that it knows every few seconds, to a file of its own.

    Args:
        folder: the run folder.
        name: of the evaluation.
        rank, world_size: of this process.
    """

    def __init__(self, folder: Path, name: str, rank: int = 0, world_size: int = 1) -> None:
        self.folder = folder / "evaluations"
        self.name = name
        self.rank = rank
        self.whole = self.folder / f"{name}.safetensors"
        self.own = self.folder / f"{name}.part-{rank}-of-{world_size}.safetensors"
        self.written = time.monotonic()

    @contextmanager
    def held(self, anew: bool) -> Iterator[None]:
        """Make the folder, and keep other processes from the same evaluation.

        Args:
            anew: forget what was found before.

        Raises:
            RunFolderError: another process is at it, or the folder cannot be written.
        """
        lock = self.folder / f".{self.name}.lock"
        for path in (self.folder, lock):
            if path.is_symlink():
                raise RunFolderError(f"{path} is a link, expected {'a folder' if path == self.folder else 'a file'}")
        try:
            self.folder.mkdir(exist_ok=True)
            held = FileLock(lock).acquire(timeout=0)
        except Timeout as error:
            raise RunFolderError(f"{self.whole} is being made by another process; wait for it or stop it") from error
        except OSError as error:
            raise RunFolderError(
                f"cannot write to {self.folder} ({error}); evaluate a copy of the run folder"
            ) from error
        with held:
            try:
                for path in [self.whole, *self.parts()] if anew else []:
                    path.unlink(missing_ok=True)
                yield
            finally:
                lock.unlink(missing_ok=True)

    def parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}.part-*.safetensors"))

    def load(self, needed: Needed) -> Records:
        """Read what was found before; pass over a file that is damaged, with a warning.

        Args:
            needed: of each block and part of the evaluation, how many examples it has, and the names of the values
                that it must have of each.
        """
        records = Records()
        for path in [self.whole, *self.parts()]:
            if path.exists():
                try:
                    records.blocks |= read_blocks(path, needed)
                except Exception as error:  # the package's, PyTorch's or ours
                    log.warning("%s is damaged (%s): its blocks are evaluated again", path, error)
        return records

    def keep(self, records: Records) -> None:
        """Write what this process knows, if some time has passed."""
        if time.monotonic() > self.written + SECONDS:
            self.write(self.own, records)

    @contextmanager
    def keeping(self, records: Records) -> Iterator[None]:
        """Write what this process knows if the block fails or is interrupted."""
        before = len(records.blocks)
        try:
            yield
        except BaseException as error:
            if len(records.blocks) > before:
                self.write(self.own, records)
            if records.blocks or not isinstance(error, Exception):
                log.warning("stopped; %d blocks are kept: the same command goes on from there", len(records.blocks))
            raise

    def write(self, path: Path, records: Records) -> None:
        from safetensors.torch import save

        with replacing(path) as partial:
            partial.write_bytes(save(columns_of(records)))
        self.written = time.monotonic()

    def finish(self, records: Records) -> None:
        """Write all values to one file, and remove the parts."""
        self.write(self.whole, records)
        for path in self.parts():
            path.unlink(missing_ok=True)


def columns_of(records: Records) -> dict[str, Tensor]:
    """Return all values as tensors by name, in the order of their blocks, with a table of the blocks."""
    names, keys = sorted(records.names), sorted(records.blocks)
    layout = [[*key, *(len(records.blocks[key].get(name, ())) for name in names)] for key in keys]
    values = {name: [records.blocks[key][name].cpu() for key in keys if name in records.blocks[key]] for name in names}
    return {name: torch.cat(parts).contiguous() for name, parts in values.items()} | {LAYOUT: torch.tensor(layout)}


def read_blocks(path: Path, needed: Needed) -> dict[Key, dict[str, Tensor]]:
    """Read the values of `columns_of`, block by block.

    Raises:
        ValueError: they are not of an evaluation with these blocks, and with the values that are needed of each.
    """
    from safetensors.torch import load

    with opened(path) as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"it holds more than {LIMIT:,} bytes, which none of ours does")
    columns = load(content)
    layout = columns.pop(LAYOUT)
    names = sorted(columns)
    if layout.dim() != 2 or layout.shape[1] != 2 + len(names) or layout.dtype != torch.int64:
        raise ValueError("its blocks are not told apart")
    split = {name: columns[name].split(layout[:, 2 + i].tolist()) for i, name in enumerate(names)}
    found: dict[Key, dict[str, Tensor]] = {}
    for row, (number, part, *counts) in enumerate(layout.tolist()):
        size, wanted = needed.get((number, part), (0, ()))
        of_name = dict(zip(names, counts, strict=True))
        if (number, part) in found or size == 0 or any(of_name.get(name) != size for name in wanted):
            raise ValueError("its blocks are of another evaluation")
        found[number, part] = {name: split[name][row] for name in names if of_name[name]}
    if not all(column.is_floating_point() for column in columns.values()):
        raise ValueError("its values are not all floating-point numbers")
    return found


def digest(parts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return a hash, in eight hex digits, of all that can change an evaluation's numbers, the weights included."""
    sha = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(state.items()):
        sha.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:8]
