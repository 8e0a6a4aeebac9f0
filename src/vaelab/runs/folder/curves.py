"""Read the curves of a run: `curves.csv`, a table with a row for each time that training logs metrics."""

import csv
import math
from pathlib import Path

from vaelab.errors import RunFolderError
from vaelab.security.untrusted import read_text, reason_of, shown

FILE = "curves.csv"
COUNTS = ("samples_seen", "steps")  # the first columns; all others are metrics
LIMIT = 2**24  # bytes; about a hundred thousand rows
Curve = list[tuple[float, float]]


def read_curves(folder: Path) -> dict[str, Curve]:
    """Return the curve of each metric as points (`samples_seen`, value); an empty dict if there is no file.

    A value may be infinite or NaN. The file may be that of a stranger, or of a run that is writing to it.

    Raises:
        RunFolderError: the file is larger than `LIMIT`, or is not such a table.
    """
    path = folder / FILE
    try:
        text = read_text(path, LIMIT)
        whole = text[: text.rfind("\n") + 1]  # the last line may be half written
        header, *rows = csv.reader(whole.splitlines() or [""])
        names = header[len(COUNTS) :]
        if tuple(header[: len(COUNTS)]) != COUNTS or not all(map(str.isprintable, names)):
            raise ValueError(f"the columns are {shown(','.join(header))}, expected {','.join(COUNTS)},...")
        curves: dict[str, Curve] = {name: [] for name in names}
        for seen, _, *values in rows:
            if not math.isfinite(x := float(seen)):
                raise ValueError(f"samples_seen is {shown(seen)}, expected a number")
            for name, value in zip(names, values, strict=True):
                if value:
                    curves[name].append((x, float(value)))
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error) as error:
        raise RunFolderError(f"{path} is damaged ({reason_of(error)}); delete it to go without curves") from error
    return curves
