"""Times whole sweeps: two workers beside one, what a job costs beyond itself, and finding a finished sweep again.

    python benchmarks/sweeps.py [parallel] [overhead] [again] [--jobs 8] [--short 200] [--finished 1000] [--rounds 3]

- `parallel`: `--jobs` runs of a small network (784-200-20-200-784 on mnist5k, `--epochs` epochs) under
  `hydra/launcher=basic` with all threads, `basic` with one, and `local` with a worker for each core; in alternating
  rounds, as ratios of the same round.
- `overhead`: a sweep of `--short` runs of one optimiser step each, beside the seconds that the runs themselves note.
- `again`: a sweep of `--finished` folders, copies of one that are done, typed again; beside the time in which Hydra
  composes so many jobs, and nothing else.

All commands run as a user types them, in a temporary folder. The table is printed, and written to the folder `--out` as
sweeps.md, beside sweeps.json.
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
    parser.add_argument("--epochs", type=int, default=30, help="of each of those jobs (default 30)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--finished", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    return parser.parse_args()


def timed(cwd: Path, *overrides: str, threads: int | None = None) -> float:
    """Seconds that a sweep takes as a whole."""
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    start = time.perf_counter()
    command = [sys.executable, "-m", "vaelab.train", "-m", *overrides]
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def parallel(options: argparse.Namespace, cwd: Path) -> dict[str, list[float]]:
    """Seconds of each way, round by round."""
    line = (*SMALL, f"trainer.max_epochs={options.epochs}", f"seed=range({options.jobs})")
    ways = {"basic, all threads": ("basic", None), "basic, one thread": ("basic", 1), "local": ("local", None)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for round_number in range(options.rounds):
        for i, (way, (launcher, threads)) in enumerate(ways.items()):
            name = f"sweep.name=r{round_number}w{i}"
            found[way].append(timed(cwd, *line, f"hydra/launcher={launcher}", name, threads=threads))
    return found


def overhead(options: argparse.Namespace, cwd: Path) -> tuple[float, float]:
    """Seconds of the sweep, and those that its runs say they took."""
    whole = timed(cwd, *STEP, f"seed=range({options.short})", "sweep.name=short", threads=1)
    noted = [json.loads(path.read_text())["seconds"] for path in cwd.glob("logs/sweeps/short/*/status.json")]
    return whole, sum(noted)


def again(options: argparse.Namespace, cwd: Path) -> tuple[float, float]:
    """Seconds in which a finished sweep is found again, and in which Hydra composes it."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from vaelab.runs.configuration import CONF, full_keys, plain
    from vaelab.runs.folder.names import register_resolvers

    timed(cwd, *STEP, "seed=0", "sweep.name=finished")
    (done,) = cwd.glob("logs/sweeps/finished/*/")
    seconds = 0.0
    register_resolvers()
    with initialize_config_dir(CONF, version_base="1.3"):
        for seed in range(1, options.finished):
            line = full_keys("train", [*STEP, f"seed={seed}", "sweep.name=finished"])
            start = time.perf_counter()
            cfg = compose("train", line, return_hydra_config=True)
            seconds += time.perf_counter() - start
            copy = done.with_name(f"{folder_of(done.name, seed, plain(cfg))}")
            shutil.copytree(done, copy, ignore=shutil.ignore_patterns("checkpoints", "*.log"))
            stored = yaml.load((copy / "config.yaml").read_text(), yaml.CSafeLoader)
            (copy / "config.yaml").write_text(yaml.safe_dump(stored | {"seed": seed}, sort_keys=False))
            OmegaConf.clear_cache(cfg)
    found = timed(cwd, *STEP, f"seed=range({options.finished})", "sweep.name=finished")
    if list(cwd.glob("logs/sweeps/finished/*/checkpoints")) != [done / "checkpoints"]:
        raise RuntimeError("jobs that are done were run again: their folders are not the copies made here")
    return found, seconds * options.finished / max(1, options.finished - 1)


def folder_of(name: str, seed: int, config: dict[str, object]) -> str:
    """The name of the folder that differs from `name` by its seed."""
    from vaelab.runs.folder.identity import identity

    return f"{name.rpartition('-')[0].removesuffix('-seed_0')}-seed_{seed}-{identity(config)}"


def tables(found: dict[str, object], options: argparse.Namespace) -> str:
    """All that was measured, as Markdown."""
    lines = []
    if isinstance(ways := found.get("parallel"), dict):
        lines += [
            f"| {options.jobs} jobs of {options.epochs} epochs | seconds | times as fast as basic, one thread |",
            "|---|---|---|",
        ]
        one = ways["basic, one thread"]
        for way, seconds in ways.items():
            lines.append(f"| {way} | {median(seconds):.1f} | {ratio(one, seconds)} |")
    if isinstance(short := found.get("overhead"), tuple | list):
        whole, jobs = short
        each = (whole - jobs) / options.short
        lines += ["", f"{options.short} jobs of one step: {whole:.0f} s, of which the runs say {jobs:.0f} s; "]
        lines[-1] += f"{each:.2f} s a job beyond the run itself."
    if isinstance(re := found.get("again"), tuple | list):
        lines += ["", f"{options.finished} finished jobs are found again in {re[0]:.0f} s; "]
        lines[-1] += f"Hydra composes so many, once each, in {re[1]:.0f} s."
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
