"""Evaluations that a run folder keeps, example by example, so that one that was interrupted goes on: `evaluations/`."""

import hashlib
import json
import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from vaelab.records import Records
from vaelab.stored import replacing
from vaelab.untrusted import RunFolderError, opened, shown

LIMIT = 2**30  # bytes
SECONDS = 5.0  # between two writes, at least
LAYOUT = "blocks"  # for each block: its number, and how many values it has of each name, in alphabetical order

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
        self.whole = self.folder / f"{name}.safetensors"
        self.own = self.folder / f"{name}.part-{rank}-of-{world_size}.safetensors"
        self.written = time.monotonic()

    @contextmanager
    def held(self, anew: bool) -> Iterator[None]:
        """Makes the folder, and keeps other processes from the same evaluation.

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
            for path in [self.whole, *self.parts()] if anew else []:
                path.unlink(missing_ok=True)
            yield
            lock.unlink(missing_ok=True)

    def parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.name}.part-*.safetensors"))

    def load(self, sizes: Sequence[int], names: Collection[str]) -> Records:
        """What was found before; a file that is damaged is as if it were not there.

        Args:
            sizes: of the evaluation's blocks, in examples.
            names: of values that each block must have, one for each example.
        """
        records = Records()
        for path in [self.whole, *self.parts()]:
            if path.exists():
                try:
                    records.blocks |= read_blocks(path, sizes, names)
                except Exception as error:  # the package's, PyTorch's or ours
                    log.warning("%s is damaged (%s): its blocks are evaluated again", path, error)
        return records

    def keep(self, records: Records) -> None:
        """Writes what this process knows, if some time has passed."""
        if time.monotonic() > self.written + SECONDS:
            self.write(self.own, records)

    @contextmanager
    def keeping(self, records: Records) -> Iterator[None]:
        """Writes what this process knows at the end of the block, even if that fails or is interrupted."""
        before = len(records.blocks)
        try:
            yield
        except BaseException:
            if len(records.blocks) > before:
                self.write(self.own, records)
            if records.blocks:
                log.warning("%d blocks are kept: the same command goes on from there", len(records.blocks))
            raise

    def write(self, path: Path, records: Records) -> None:
        from safetensors.torch import save

        with replacing(path) as partial:
            partial.write_bytes(save(columns_of(records)))
        self.written = time.monotonic()

    def finish(self, records: Records) -> None:
        """Writes all values to one file; the parts go."""
        self.write(self.whole, records)
        for path in self.parts():
            path.unlink(missing_ok=True)


def columns_of(records: Records) -> dict[str, Tensor]:
    """All values as tensors by name, in the order of their blocks, and how to tell these apart."""
    names, numbers = sorted(records.names), sorted(records.blocks)
    columns = {name: torch.cat([records.blocks[number][name].cpu() for number in numbers]) for name in names}
    sizes = [[number, *(len(records.blocks[number][name]) for name in names)] for number in numbers]
    return {name: column.contiguous() for name, column in columns.items()} | {LAYOUT: torch.tensor(sizes)}


def read_blocks(path: Path, sizes: Sequence[int], needed: Collection[str]) -> dict[int, dict[str, Tensor]]:
    """The values of `columns_of`, block by block.

    Raises:
        ValueError: they are not of an evaluation with blocks of such sizes, and with the values that are needed.
    """
    from safetensors.torch import load

    with opened(path) as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"it holds more than {LIMIT:,} bytes, which none of ours does")
    columns = load(content)
    layout = columns.pop(LAYOUT)
    names = sorted(columns)
    if layout.dim() != 2 or layout.shape[1] != 1 + len(names) or layout.dtype != torch.int64:
        raise ValueError("its blocks are not told apart")
    numbers = layout[:, 0].tolist()
    if len(set(numbers)) < len(numbers) or not set(numbers) <= set(range(len(sizes))):
        raise ValueError("its blocks are of another evaluation")
    if missing := set(needed) - set(names):
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    for i, name in enumerate(names):
        lengths = [sizes[number] for number in numbers]
        if not columns[name].is_floating_point() or (name in needed and layout[:, 1 + i].tolist() != lengths):
            raise ValueError(f"its values of {shown(name)} are not one number for each example")
    split = {name: columns[name].split(layout[:, 1 + i].tolist()) for i, name in enumerate(names)}
    return {number: {name: split[name][i] for name in names} for i, number in enumerate(numbers)}


def digest(parts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Eight hex digits that name an evaluation: of all that can change its numbers, the weights included."""
    sha = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(state.items()):
        sha.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:8]
