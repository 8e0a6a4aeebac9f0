"""Break down the time of an optimiser step with `torch.profiler`: matrix products, noise, optimiser, the rest.

    python benchmarks/breakdown.py [--network 500-20] [--steps 100] [--device cuda] [latent_dim=50 decoder=gaussian ...]

Overrides are those of `python -m vaelab.train`. "Python and dispatch" is the time in which no operation (on a GPU, no
kernel) runs. The last row is the time without the profiler, because the profiler makes small operations look longer.
"""

import argparse
from collections import Counter

from run import NETWORKS
from torch.profiler import ProfilerActivity, profile
from vaelab_loop import built, trained, warm_up
from worker import Job, Loop

GROUPS = {  # group → parts of the names of its operations or kernels; the first match counts
    "matrix products": ("mm", "gemm", "matmul", "cutlass"),
    "optimiser": ("adam", "adagrad", "multi_tensor"),
    "noise": ("random", "normal", "uniform", "bernoulli", "distribution"),
    "pixels out of the resident bytes": ("index",),
}
TOTAL = "total"
OTHERS = "element by element: activations, likelihood, KL, their gradients"


def group_of(name: str) -> str:
    return next((group for group, parts in GROUPS.items() if any(part in name.lower() for part in parts)), OTHERS)


def milliseconds(loop: Loop, steps: int, untimed: int, device: str) -> dict[str, float]:
    """Return the time per step of each group. The `untimed` extra steps of the loop are profiled but not timed."""
    kind = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
    with profile(activities=[kind]) as profiler:
        taken, seconds = loop(steps)
    found: Counter[str] = Counter()
    for event in profiler.key_averages():
        if event.key.startswith("aten::") or device == "cuda":
            own = event.self_device_time_total if device == "cuda" else event.self_cpu_time_total
            found[group_of(event.key)] += own / 1e3 / (steps + untimed)
    total = seconds / taken * 1e3
    return dict(found.most_common()) | {"Python and dispatch": total - sum(found.values()), TOTAL: total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="500-20", help="(default 500-20)")
    parser.add_argument("--steps", type=int, default=100, help="(default 100)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    contender = "vaelab-scan" if options.device == "cpu" else "vaelab-graph"
    job = Job(contender, NETWORKS[options.network], "mnist5k", "", options.device, None)
    data, module = built(job, *options.overrides)
    loop = trained(job, data, module)
    taken, seconds = loop(options.steps)
    print(f"| {job.network} | ms per step | share |\n| --- | ---: | ---: |")
    found = milliseconds(loop, options.steps, warm_up(data), options.device)
    for name, ms in found.items():
        print(f"| {name} | {ms:.2f} | {ms / found[TOTAL]:.0%} |")
    print(f"| without the profiler | {seconds / taken * 1e3:.2f} | |")


if __name__ == "__main__":
    main()
