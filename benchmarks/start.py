"""Measure the time from the command to its help, a refusal or the first optimiser step, beside imports.

    python benchmarks/start.py [--rounds 5]

Each measurement is a process that exits at that point. The first round does not count. The table has the median in
seconds (lowest to highest), and the median ratios to the two imports in the same round, of processor time, because
other programs change it less. It is printed, and `--out` gets start.json.
"""

import argparse
import json
import resource
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
TRAIN = ["-m", "vaelab.train"]
PROGRAMS = {  # the arguments of Python
    "import hydra": ["-c", "import os, hydra; os._exit(0)"],
    "import torch": ["-c", "import os, torch; os._exit(0)"],
    "import pytorch_lightning": ["-c", "import os, pytorch_lightning; os._exit(0)"],
    "help": [*TRAIN, "--help"],
    "refusal of an unknown name": [*TRAIN, "latent_dims=5"],
    "refusal of an unknown choice": [*TRAIN, "decoder=foo"],
    "refusal of a wrong type": [*TRAIN, "latent_dim=abc"],
    "refusal by a class": [*TRAIN, "decoder=gaussian", "decoder.head.scale.min_scale=-1"],
    "first optimiser step, logger=none": ["-c", FIRST_STEP, "logger=none"],
    "first optimiser step, logger=wandb": ["-c", FIRST_STEP, "logger=wandb"],
}
BASES = ("import torch", "import pytorch_lightning")


def seconds(name: str, folder: str) -> tuple[float, float]:
    """Return how long a program takes, and its processor time."""
    start, before = time.perf_counter(), processor_time()
    done = subprocess.run([sys.executable, *PROGRAMS[name]], cwd=folder, capture_output=True, text=True)
    taken = time.perf_counter() - start, processor_time() - before
    if done.returncode != (2 if name.startswith("refusal") else 0):
        raise RuntimeError(f"{name} ended with exit code {done.returncode}: {done.stderr}")
    return taken


def processor_time() -> float:
    """Return the processor time of all child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(name: str, found: dict[str, list[float]], ratios: dict[str, list[float]]) -> str:
    """Return a line of the table."""
    values = found[name]
    medians = (f"{statistics.median(ratios[f'{name}, to {base}']):.2f}" for base in BASES)
    cells = (name, f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})", *medians)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="(default 5)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for _ in range(options.rounds + 1):
        for name in PROGRAMS:
            with tempfile.TemporaryDirectory() as folder:
                measured[name].append(seconds(name, folder))
    found, of_processor = (
        {name: [both[i] for both in values[1:]] for name, values in measured.items()} for i in (0, 1)
    )
    ratios = {
        f"{name}, to {base}": [a / b for a, b in zip(values, of_processor[base], strict=True)]
        for name, values in of_processor.items()
        for base in BASES
    }
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": machine("cpu"), "ratios": ratios, "seconds": found}
    (options.out / "start.json").write_text(json.dumps(record, indent=2) + "\n")
    print(f"| | seconds | {' | '.join(f'to {base}' for base in BASES)} |\n| --- | ---: | ---: | ---: |")
    print("\n".join(row(name, found, ratios) for name in found))


if __name__ == "__main__":
    main()
