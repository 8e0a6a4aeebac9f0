"""Store the per-example values of an evaluation in `evaluations/`, so that an interrupted evaluation can resume."""

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
from vaelab.runs.processes.cores import this_process
from vaelab.security.untrusted import opened, reason_of

LIMIT = 2**30  # bytes
SECONDS = 5.0  # minimum time between two writes
LAYOUT = "blocks"  # a row for each block: number, part, then the number of its values of each name, sorted by name
TEST = "test-last"  # the name under which a run stores the values of the test at its end
Key = tuple[int, int]
Needed = Mapping[Key, tuple[int, Collection[str]]]  # block → its size, and the names of its values

log = logging.getLogger(__name__)


class KeptEvaluation:
    """The stored values of one evaluation, in `evaluations/NAME.safetensors` of a run folder.

    During the evaluation, each process writes its values to its own file every few seconds.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / "evaluations"
        self.name = name
        self.whole = self.folder / f"{name}.safetensors"
        self.own = self.folder / "{}.part-{}-of-{}.safetensors".format(name, *this_process())
        self.written = time.monotonic()

    @property
    def files(self) -> list[Path]:
        """The file of the whole evaluation, and files of interrupted processes, if they exist."""
        return sorted(self.folder.glob(f"{self.name}.*safetensors"))

    @contextmanager
    def held(self, anew: bool) -> Iterator[None]:
        """Lock the evaluation against other processes; if `anew`, delete its stored values."""
        lock = self.folder / f".{self.name}.lock"
        for path in (self.folder, lock):
            if path.is_symlink():
                raise RunFolderError(f"{path} is a link; remove it, or evaluate a copy of the run folder without it")
        try:
            self.folder.mkdir(exist_ok=True)
            held = FileLock(lock).acquire(timeout=0)
        except Timeout as error:
            raise RunFolderError(f"{self.whole} is in use by another process; wait for it or stop it") from error
        except OSError as error:
            raise RunFolderError(f"cannot write to {self.folder} ({error}); evaluate a copy of the run") from error
        with held:
            try:
                for path in self.files if anew else []:
                    path.unlink()
                yield
            finally:
                lock.unlink(missing_ok=True)

    def load(self, needed: Needed) -> Records:
        """Read the stored values; skip a damaged file, with a warning."""
        records = Records()
        for path in self.files:
            try:
                records.blocks |= read_blocks(path, needed)
            except Exception as error:  # safetensors, PyTorch and Python raise different classes of errors
                log.warning("%s is damaged (%s): its blocks are evaluated again", path, error)
        return records

    def keep(self, records: Records) -> None:
        """Write this process's values, at most once every `SECONDS` seconds."""
        if time.monotonic() > self.written + SECONDS:
            self.write(self.own, records)

    @contextmanager
    def keeping(self, records: Records) -> Iterator[None]:
        """Write this process's values if the `with` block fails or is interrupted."""
        try:
            yield
        except BaseException:
            if records.blocks:
                self.write(self.own, records)
                log.warning("stopped; %d blocks are stored: type the same command to continue", len(records.blocks))
            raise

    def finish(self, records: Records) -> None:
        """Write all values to one file, and remove the other files."""
        self.write(self.whole, records)
        for path in self.files:
            if path != self.whole:
                path.unlink()

    def write(self, path: Path, records: Records) -> None:
        """Write one tensor for each name, which joins the values of all blocks, and the layout of the blocks."""
        from safetensors.torch import save

        names, blocks = sorted(records.names), sorted(records.blocks.items())
        path.parent.mkdir(exist_ok=True)
        layout = [[*key, *(len(values.get(name, ())) for name in names)] for key, values in blocks]
        columns = {name: torch.cat([values[name].cpu() for _, values in blocks if name in values]) for name in names}
        with replacing(path) as partial:
            partial.write_bytes(save(columns | {LAYOUT: torch.tensor(layout)}))
        self.written = time.monotonic()


def read_column(path: Path, estimator: str, name: str) -> Tensor:
    """Return the values of a metric in a file of `KeptEvaluation`, in the order of the examples, in float64.

    If the evaluation had several estimators, the values of `estimator` have its name before theirs.

    Raises:
        FileNotFoundError: there is no file.
        RunFolderError: the file is damaged, or lacks these values.
    """
    try:
        columns = load_columns(path)
        column = columns[own if (own := f"{estimator}/{name}") in columns else name]
    except (FileNotFoundError, RunFolderError):
        raise
    except Exception as error:  # safetensors and PyTorch raise different classes of errors
        raise RunFolderError(f"{path} has no values of {name} ({reason_of(error)}): evaluate the run again") from error
    if column.dim() != 1 or not column.is_floating_point():
        raise RunFolderError(f"{path} has {name} of shape {tuple(column.shape)}, expected one number per example")
    return column.double()


def load_columns(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; refuse a file that is larger than vaelab writes."""
    from safetensors.torch import load

    with opened(path) as file:
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"it holds more than {LIMIT:,} bytes, more than vaelab writes")
    return load(content)


def read_examples(path: Path) -> dict[str, Tensor]:
    """Return the values of each example in a file of `KeptEvaluation`, by name.

    Raises:
        FileNotFoundError: there is no file.
        RunFolderError: the file is damaged.
    """
    try:
        return {name: column for name, column in load_columns(path).items() if name != LAYOUT}
    except (FileNotFoundError, RunFolderError):
        raise
    except Exception as error:  # safetensors and PyTorch raise different classes of errors
        raise RunFolderError(f"{path} cannot be read ({reason_of(error)}): evaluate the run again") from error


def read_blocks(path: Path, needed: Needed) -> dict[Key, dict[str, Tensor]]:
    """Return the values of each block in a file of `KeptEvaluation`; refuse blocks that do not fit `needed`."""
    columns = load_columns(path)
    layout = columns.pop(LAYOUT).tolist()
    if not all(column.is_floating_point() for column in columns.values()):
        raise ValueError("some of its values are not floating-point numbers")
    parts = [column.split([row[2 + i] for row in layout]) for i, (_, column) in enumerate(sorted(columns.items()))]
    found: dict[Key, dict[str, Tensor]] = {}
    for (number, part, *_), *values in zip(layout, *parts, strict=True):
        named = {name: value for name, value in zip(sorted(columns), values, strict=True) if len(value)}
        size, wanted = needed.get((number, part), (0, ()))
        if (number, part) in found or size == 0 or any(len(named.get(name, ())) != size for name in wanted):
            raise ValueError("its blocks do not fit this evaluation")
        found[number, part] = named
    return found


def digest(parts: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Return eight hex digits: a hash of `parts`, the settings of an evaluation, and of the weights in `state`."""
    sha = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
    for name, tensor in sorted(state.items()):
        sha.update(name.encode() + tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:8]
