"""Time IWAE's training step, and say how long its whole schedule would take.

    python benchmarks/iwae.py [--device cuda] [--seconds 20]

The model is that of Burda, Grosse & Salakhutdinov (2016), table 1: 784-200-200-50, one stochastic layer, 50 samples of
z, batches of 20. The schedule has 3280 epochs of 50,000 digits, 8.2 million steps. The step is compiled, and on a GPU
also captured. The line is printed and written to `--out` as iwae.md.
"""

import argparse
from pathlib import Path

import torch
from digits import digits
from report import machine
from vaelab_loop import built, trained
from worker import Job, Network

STEPS = 3280 * 50_000 // 20
MODEL = ("hidden_features=[200,200]", "objective=iwae", "objective.num_samples=50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="(default 20)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    contender = "vaelab-compile-graph" if options.device == "cuda" else "vaelab-compile"
    job = Job(contender, Network(200, 50, 20), digits()[0], "", options.device, None)
    loop = trained(job, *built(job, *MODEL))
    warm, seconds = loop(300)
    steps, seconds = loop(max(300, int(options.seconds / seconds * warm)))
    where = machine(options.device)
    ms = seconds / steps * 1e3
    line = (
        f"{where.get('gpu', where['cpu'])}, {torch.get_num_threads()} threads, PyTorch {where['torch']}: {ms:.3g} ms a "
        f"step over {steps} steps, so {ms / 1e3 * STEPS / 3600:.2g} hours for IWAE's {STEPS:,} steps with 50 samples"
    )
    print(line)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "iwae.md").write_text(line + "\n")


if __name__ == "__main__":
    main()
