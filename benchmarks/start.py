"""Measure the time from the command to the first optimiser step, beside the imports that it needs.

    python benchmarks/start.py [--rounds 5]

Each measurement is a process that exits at that point. The first round does not count. The table has the median in
seconds (lowest to highest). It is printed, and `--out` gets start.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import machine

FIRST_STEP = """
import os, sys
from vaelab.training.lightning_module import VAEModule
VAEModule.on_train_batch_end = lambda *_: os._exit(0)
from vaelab import train
sys.argv = ["vaelab.train", "steps_per_call=1", *sys.argv[1:]]
train.main()
"""
PROGRAMS = {
    "import torch": ["import os, torch; os._exit(0)"],
    "import pytorch_lightning": ["import os, pytorch_lightning; os._exit(0)"],
    "import vaelab.train": ["import os, vaelab.train; os._exit(0)"],
    "first optimiser step, logger=none": [FIRST_STEP, "logger=none"],
    "first optimiser step, logger=wandb": [FIRST_STEP, "logger=wandb"],
}


def seconds(program: list[str], folder: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", *program], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(options.rounds + 1):
        for name, program in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(seconds(program, folder))
    base, *others = found
    ratios = {
        f"{name}, to {base}": [a / b for a, b in zip(found[name][1:], found[base][1:], strict=True)] for name in others
    }
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine("cpu"), "ratios": ratios, "seconds": {name: all_[1:] for name, all_ in found.items()}}
    (options.out / "start.json").write_text(json.dumps(record, indent=2) + "\n")
    print("| | seconds |\n| --- | ---: |")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values[1:]):.2f} ({min(values[1:]):.2f} to {max(values[1:]):.2f}) |")


if __name__ == "__main__":
    main()
