"""The digits that benchmarks run on."""

import os
from pathlib import Path

from vaelab.data import MNIST, ImageData, MNIST5k


def digits() -> tuple[str, ImageData]:
    """Return the name and the data: MNIST if VAELAB_DATA_DIR (default: data) has it, else the embedded mnist5k."""
    folder = os.environ.get("VAELAB_DATA_DIR", "data")
    return ("mnist", MNIST(data_dir=folder)) if (Path(folder) / "mnist").is_dir() else ("mnist5k", MNIST5k())
