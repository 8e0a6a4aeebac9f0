"""Write the curves of a run to `curves.csv`, whatever its logger."""

import csv
import os
import re
from io import StringIO
from itertools import takewhile
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.files import write_atomically
from vaelab.runs.folder.curves import COUNTS, FILE


class Curves(Logger):
    """Writes a row for each call of `log_metrics` during training, at every checkpoint and at the end.

    Rows are appended. A metric that comes up later is a new column, for which the file is replaced atomically. A kill
    costs only rows that training repeats, because the rows before a checkpoint are on the disk before the checkpoint.
    Rows of an earlier attempt are kept up to `samples_seen`, the training examples before the point of resumption.
    """

    def __init__(self, folder: Path, samples_seen: int, module: EvaluationModule) -> None:
        super().__init__()
        self.file, self.module = folder / FILE, module
        self.rows: list[dict[str, Any]] = []  # that are not written yet
        former = self.file.read_bytes() if self.file.exists() else b""
        header, *lines = former.splitlines(keepends=True) or [b""]
        self.columns = next(csv.reader([header.decode()]), [])
        kept = takewhile(lambda line: _samples_seen(line) <= samples_seen, lines)
        self.size = sum(map(len, [header, *kept]))  # what follows is replaced

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.module.trainer.state.fn == "fit":  # the final numbers are in metrics.json
            counts = {name: getattr(self.module, name) for name in COUNTS}
            self.rows.append(counts | metrics)

    def save(self) -> None:
        added = [name for name in dict.fromkeys(name for row in self.rows for name in row) if name not in self.columns]
        if added:
            self._add(added)
        if self.rows:
            text = StringIO(newline="")
            csv.DictWriter(text, self.columns, lineterminator="\n").writerows(self.rows)
            with self.file.open("r+b") as file:
                file.seek(self.size)
                file.truncate()
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
                self.size = file.tell()
            self.rows = []

    def _add(self, columns: list[str]) -> None:
        """Add columns, which are empty in the rows so far."""
        lines = self.file.read_bytes()[: self.size].decode().splitlines()[1:] if self.size else []
        header = StringIO(newline="")
        csv.writer(header, lineterminator="\n").writerow([*self.columns, *columns])
        content = header.getvalue() + "".join(f"{line}{',' * len(columns)}\n" for line in lines)
        write_atomically(self.file, content)
        self.columns += columns
        self.size = len(content.encode())

    def finalize(self, status: str) -> None:
        self.save()

    @property
    def name(self) -> str:  # empty, as is the version, so that Lightning's callbacks write to the run folder itself
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.file.parent)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, because the run folder has the hyperparameters."""


def _samples_seen(line: bytes) -> float:
    """Return the first cell of a row; infinity if the row is not whole."""
    whole = re.fullmatch(rb"(\d+),.*\n", line)
    return int(whole[1]) if whole else float("inf")
