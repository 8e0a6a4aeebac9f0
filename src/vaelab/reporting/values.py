"""The values that the options of `vaelab.list` take, in a file of their own, because reading runs is slow to import."""

import math
from typing import Any

STATES = ("done", "running", "waiting", "interrupted", "failed", "killed", "damaged")
COLUMNS = ("state", "bound", "epochs", "size", "date", "data", "run", "setting")
NEEDLESS = {"checkpoints": "is done and has more than best.ckpt", "folders": "is neither running nor waiting"}


def is_number(value: Any) -> bool:
    """Return whether a value is a finite number, and not a bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
