"""Measure the time from the command to the first optimiser step, beside the imports that it needs.

    python benchmarks/start.py [--rounds 5]

Each measurement is a process that exits at that point. The first round does not count. The table has the median in
seconds (lowest to highest).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

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
    rounds = parser.parse_args().rounds
    found: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(rounds + 1):
        for name, program in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(seconds(program, folder))
    print("| | seconds |\n| --- | ---: |")
    for name, values in found.items():
        print(f"| {name} | {statistics.median(values[1:]):.2f} ({min(values[1:]):.2f} to {max(values[1:]):.2f}) |")


if __name__ == "__main__":
    main()
