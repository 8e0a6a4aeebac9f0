"""Read the curves of a run: `curves.csv`, a table with a row for each time that training logs metrics."""

import csv
from pathlib import Path

from vaelab.errors import RunFolderError
from vaelab.security.untrusted import LARGEST, read_text, reason_of, shown

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
        if tuple(header[: len(COUNTS)]) != COUNTS or not all(map(str.isprintable, header)):
            raise ValueError(f"the columns are {shown(','.join(header))}, expected {','.join(COUNTS)},...")
        columns = {name: values for name, *values in zip(header, *rows, strict=True)}
        samples_seen = list(map(float, columns.pop("samples_seen")))
        if not all(0 <= seen < LARGEST for seen in samples_seen):
            raise ValueError("samples_seen is not a count")
        return {
            name: [(seen, float(value)) for seen, value in zip(samples_seen, values, strict=True) if value]
            for name, values in columns.items()
            if name != "steps"
        }
    except FileNotFoundError:
        return {}
    except (ValueError, csv.Error) as error:
        raise RunFolderError(f"{path} is damaged ({reason_of(error)}); delete it to go without curves") from error
