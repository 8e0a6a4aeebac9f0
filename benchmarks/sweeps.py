"""Time whole sweeps: the gain from parallel workers, the overhead of a job, and repeating a finished sweep.

    python benchmarks/sweeps.py [parallel] [overhead] [again] [--jobs 8] [--short 200] [--finished 1000] [--rounds 3]

- `parallel`: `--jobs` runs of a small network (784-200-20-200-784 on mnist5k, `--epochs` epochs) under
  `hydra/launcher=basic` with all threads, `basic` with one thread, and `local` with a worker for each core. Ratios are
  within a round.
- `overhead`: a sweep of `--short` runs of one optimiser step each, beside the run time that the runs report.
- `again`: a repeated sweep of `--finished` jobs that are all done (copies of one folder), beside the time that Hydra
  takes to compose as many jobs.

All commands run as a user types them, in a temporary folder. The table is printed and written to `--out` as sweeps.md,
with sweeps.json.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import yaml
from report import machine, ratio

SMALL = ("hidden_features=200", "estimator.num_samples=1", "logger=none", "~callbacks.figures")
STEP = ("data=digits", "hidden_features=8", *SMALL[1:], "trainer.max_steps=1")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=("parallel", "overhead", "again", []), help="default: all")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30, help="of each job of `parallel` (default 30)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def timed(cwd: Path, *overrides: str, threads: int | None = None) -> float:
    """Run a sweep, and return the seconds that it takes."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    start = time.perf_counter()
    command = [sys.executable, "-m", "vaelab.train", "-m", *overrides]
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def parallel(options: argparse.Namespace, cwd: Path) -> dict[str, list[float]]:
    """Return launcher → the seconds of each round."""
    line = (*SMALL, f"trainer.max_epochs={options.epochs}", f"seed=range({options.jobs})")
    launchers = {"basic, all threads": ("basic", None), "basic, one thread": ("basic", 1), "local": ("local", None)}
    found: dict[str, list[float]] = {label: [] for label in launchers}
    for round_number in range(options.rounds):
        for i, (label, (launcher, threads)) in enumerate(launchers.items()):
            name = f"sweep.name=r{round_number}w{i}"
            found[label].append(timed(cwd, *line, f"hydra/launcher={launcher}", name, threads=threads))
    return found


def overhead(options: argparse.Namespace, cwd: Path) -> tuple[float, float]:
    """Return the seconds of the sweep, and the sum of those that its runs report."""
    whole = timed(cwd, *STEP, f"seed=range({options.short})", "sweep.name=short", threads=1)
    reported = [json.loads(path.read_text())["seconds"] for path in cwd.glob("logs/sweeps/short/*/status.json")]
    return whole, sum(reported)


def again(options: argparse.Namespace, cwd: Path) -> tuple[float, float]:
    """Return the seconds of repeating a finished sweep, and of composing its jobs."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from vaelab.runs.command_line import hydra_overrides
    from vaelab.runs.configuration import CONF, plain
    from vaelab.runs.resolvers import register_resolvers

    timed(cwd, *STEP, "seed=0", "sweep.name=finished")
    (done,) = cwd.glob("logs/sweeps/finished/*/")
    seconds = 0.0
    register_resolvers()
    with initialize_config_dir(CONF, version_base="1.3"):
        for seed in range(1, options.finished):
            line = hydra_overrides("train", [*STEP, f"seed={seed}", "sweep.name=finished"])
            start = time.perf_counter()
            cfg = compose("train", line, return_hydra_config=True)
            seconds += time.perf_counter() - start
            copy = done.with_name(f"{folder_of(done.name, seed, plain(cfg))}")
            shutil.copytree(done, copy, ignore=shutil.ignore_patterns("checkpoints", "*.log"))
            stored = yaml.load((copy / "config.yaml").read_text(), yaml.CSafeLoader)
            (copy / "config.yaml").write_text(yaml.safe_dump(stored | {"seed": seed}, sort_keys=False))
            OmegaConf.clear_cache(cfg)
    repeated = timed(cwd, *STEP, f"seed=range({options.finished})", "sweep.name=finished")
    if list(cwd.glob("logs/sweeps/finished/*/checkpoints")) != [done / "checkpoints"]:
        raise RuntimeError("finished jobs ran again, because the copied folders do not have the names of the jobs")
    return repeated, seconds * options.finished / max(1, options.finished - 1)


def folder_of(name: str, seed: int, config: dict[str, object]) -> str:
    """Return the name of the folder that differs from `name` in its seed only."""
    from vaelab.runs.folder.identity import identity

    return f"{name.rpartition('-')[0].removesuffix('-seed_0')}-seed_{seed}-{identity(config)}"


def tables(found: dict[str, object], options: argparse.Namespace) -> str:
    """Format the measurements as Markdown."""
    lines = []
    if isinstance(launchers := found.get("parallel"), dict):
        lines += [
            f"| {options.jobs} jobs of {options.epochs} epochs | seconds | speed relative to basic, one thread |",
            "|---|---|---|",
        ]
        one = launchers["basic, one thread"]
        for label, seconds in launchers.items():
            lines.append(f"| {label} | {median(seconds):.1f} | {ratio(one, seconds)} |")
    if isinstance(short := found.get("overhead"), tuple | list):
        whole, jobs = short
        each = (whole - jobs) / options.short
        lines += ["", f"{options.short} jobs of one step: {whole:.0f} s, of which the runs report {jobs:.0f} s; "]
        lines[-1] += f"{each:.2f} s a job beyond the run itself."
    if isinstance(repeated := found.get("again"), tuple | list):
        lines += ["", f"Repeating {options.finished} finished jobs takes {repeated[0]:.0f} s; "]
        lines[-1] += f"composing them takes Hydra {repeated[1]:.0f} s."
    return "\n".join(lines)


def main() -> None:
    options = parse()
    found: dict[str, object] = {"machine": machine("cpu")}
    with TemporaryDirectory() as folder:
        for name, measure in (("parallel", parallel), ("overhead", overhead), ("again", again)):
            if name in (options.parts or ("parallel", "overhead", "again")):
                found[name] = measure(options, Path(folder))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "sweeps.json").write_text(json.dumps(found, indent=2))
    (options.out / "sweeps.md").write_text(tables(found, options) + "\n")
    print(tables(found, options))


if __name__ == "__main__":
    main()
