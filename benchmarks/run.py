"""Time an optimiser step of plain loops, the usual Lightning, pythae (optional) and vaelab, on the same data.

    python benchmarks/run.py [--rounds 7] [--threads 2] [--device cuda] [--pythae PATH/bin/python]

The networks are the paper's with a Bernoulli decoder, trained on MNIST if VAELAB_DATA_DIR has it, else on the embedded
digits. Each contender runs in its own
process, which warms up and is then timed for about `--seconds` in every round, one contender after another. Compiling,
capturing and setting up a trainer are not timed. The table has the median over rounds of the ms per optimiser step, the
ratio to the plain fused loop of the same round (median, lowest to highest), the time of the matrix products alone, and
each process's peak memory, libraries and data included. It is printed and written to `--out` as results.md, with
results.json.

pythae needs a separate environment, and is left out without one:

    python3.11 -m venv PATH && PATH/bin/pip install -r benchmarks/requirements-pythae.txt
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits import digits
from report import machine, markdown
from worker import SEEDS, Job, Network, Worker, WorkerError

NETWORKS = {"500-20": Network(500, 20, 100), "200-50": Network(200, 50, 20)}
ALWAYS = ("plain", "products")  # the others are compared with these
ON_CUDA = ("vaelab-graph", "vaelab-compile-graph")
ON_CPU = ("vaelab-processes",)
CONTENDERS = {  # name: (label, script)
    "plain": ("plain loop, fused Adam", "plain.py"),
    "plain-again": ("the same again, to show the noise", "plain.py"),
    "plain-default": ("plain loop, default Adam", "plain.py"),
    "usual": ("usual Lightning + DataLoader", "usual.py"),
    "pythae": ("pythae", "pythae_loop.py"),
    "vaelab-step": ("vaelab, one step a call", "vaelab_loop.py"),
    "vaelab-scan": ("vaelab, scanned", "vaelab_loop.py"),
    "vaelab-compile": ("vaelab, compiled", "vaelab_loop.py"),
    "vaelab-graph": ("vaelab, CUDA graph", "vaelab_loop.py"),
    "vaelab-compile-graph": ("vaelab, compiled, CUDA graph", "vaelab_loop.py"),
    "vaelab-stacked": ("vaelab, {seeds} seeds stacked, per seed", "vaelab_loop.py"),
    "vaelab-processes": ("vaelab, seeds in a process for each core, per seed", "vaelab_loop.py"),
    "products": ("matrix products alone", "plain.py"),
}
FIRST_STEPS = 100  # to find how many steps take `--seconds`
INSTALL = "left out: install benchmarks/requirements-pythae.txt into an environment, and give its Python as --pythae"


@dataclass
class Row:
    """The measurements of one contender; `ms` holds the time per step of each round."""

    label: str
    ms: list[float] = field(default_factory=list)
    steps: int = 0
    resident_mib: float = 0.0
    cuda_mib: float = 0.0
    kernel_ms: float | None = None
    threads: int = 0
    torch: str = ""
    notes: list[str] = field(default_factory=list)

    def update(self, answer: dict[str, Any]) -> None:
        for name, value in answer.items():
            self.ms.append(value) if name == "ms" else setattr(self, name, value)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="(default 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="approximate time of each measurement (default 1)")
    parser.add_argument("--threads", type=int, help="of PyTorch on the CPU (default: PyTorch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--network", choices=NETWORKS, help="one of the two (default: both)")
    parser.add_argument("--only", type=names, help=f"some of {','.join(CONTENDERS)}; {' and '.join(ALWAYS)} are added")
    parser.add_argument("--pythae", metavar="PYTHON", help="of the environment with pythae")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: PyTorch finds no GPU")
    return options


def names(text: str) -> list[str]:
    contenders = text.split(",")
    if unknown := set(contenders) - set(CONTENDERS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CONTENDERS)}")
    return contenders


def chosen(options: argparse.Namespace) -> list[str]:
    left_out = ON_CPU if options.device == "cuda" else ON_CUDA
    only = options.only or [name for name in CONTENDERS if name not in left_out]
    return [name for name in CONTENDERS if name in only or name in ALWAYS]


def time_network(network: Network, options: argparse.Namespace, data: str, folder: Path) -> dict[str, Row]:
    """Time the chosen contenders, with their data and logs in `folder`."""
    seeds = SEEDS[options.device]
    rows = {name: Row(CONTENDERS[name][0].format(seeds=seeds)) for name in chosen(options)}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for name in rows:
            if name == "pythae" and not options.pythae:
                rows[name].notes.append(INSTALL)
                continue
            job = Job(name, network, data, str(folder / "levels.npy"), options.device, options.threads)
            python = options.pythae if name == "pythae" else sys.executable
            workers[name] = stack.enter_context(closing(Worker(python, CONTENDERS[name][1], job, folder)))
        workers = {name: worker for name, worker in workers.items() if started(worker, rows[name])}
        begun, steps = time.perf_counter(), {}
        for name, worker in workers.items():
            steps[name] = warmed_up(worker, rows[name], options.seconds)
            print(f"  warmed up {rows[name].label}, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
        timings(options.rounds, {name: worker for name, worker in workers.items() if steps[name]}, steps, rows)
    return rows


def started(worker: Worker, row: Row) -> bool:
    """Wait until the worker is ready, and return whether it is; a failure becomes a note."""
    try:
        row.update(worker.answer())
    except WorkerError as error:
        row.notes.append(f"failed: {error}")
    return not row.notes


def warmed_up(worker: Worker, row: Row, seconds: float) -> int:
    """Warm up, and return how many steps take about `seconds`; 0 if the worker fails."""
    try:
        ms = worker.ask(steps=FIRST_STEPS)["ms"]
        steps = max(1, round(seconds / ms * 1e3))
        worker.ask(steps=steps)
    except WorkerError as error:
        row.notes.append(f"failed: {error}")
        return 0
    return steps


def timings(rounds: int, workers: dict[str, Worker], steps: dict[str, int], rows: dict[str, Row]) -> None:
    """Time each worker once a round, in alternating order, so that a drift of the machine favours none."""

    def ask(name: str, **request: int) -> None:
        try:
            rows[name].update(workers[name].ask(**request))
        except WorkerError as error:
            rows[name].ms.clear()
            rows[name].notes.append(f"failed: {error}")
            del workers[name]

    for i in range(rounds):
        for name in list(workers)[:: -1 if i % 2 else 1]:
            ask(name, steps=steps[name])
    for name in set(workers).intersection(ON_CUDA):
        ask(name, steps=min(steps[name], 1000), profile=True)


def main() -> None:
    options = parse()
    name, data = digits()
    where = machine(options.device) | {"data": name}
    networks: dict[str, dict[str, Row]] = {}
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "levels.npy", data.split["train"].images.reshape(-1, 784))
        for key in [options.network] if options.network else NETWORKS:
            print(f"timing {NETWORKS[key]}", file=sys.stderr)
            networks[str(NETWORKS[key])] = time_network(NETWORKS[key], options, name, folder)
            write(where, networks, options)  # now, because the next network may take minutes
    print((options.out / "results.md").read_text())


def write(where: dict[str, str], networks: dict[str, dict[str, Row]], options: argparse.Namespace) -> None:
    """Write the results so far into `options.out`."""
    (options.out / "results.md").write_text(markdown(where, networks, options.rounds))
    results = {network: {name: vars(row) for name, row in rows.items()} for network, rows in networks.items()}
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "pythae")}
    ratios = {
        f"{network}: {row.label}": [ms / base for ms, base in zip(row.ms, rows["plain"].ms, strict=True)]
        for network, rows in networks.items()
        for row in rows.values()
        if row.ms and row is not rows["plain"]
    }
    record = {"machine": where, "settings": settings, "ratios": ratios, "networks": results}
    (options.out / "results.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
