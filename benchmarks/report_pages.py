"""Measure the time and memory of a report on a large sweep, and the size of its page.

    python benchmarks/report_pages.py [--jobs 1000] [--like logs/sweeps/NAME/JOB]

The sweep consists of copies of one finished run folder that differ in batch size, latent dimension and seed, each with
learning curves of 200 epochs. The run is trained first, unless `--like` names one. The whole process that makes the
report is measured.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vaelab.runs.folder.contents import FORMAT_VERSION

BATCH_SIZES = (50, 100, 200, 400)
LATENT_DIMS = (2, 5, 10, 20, 50)
TRAIN = ("data=digits", "decoder=gaussian", "latent_dim=2", "trainer.max_epochs=1", "logger=none", "hydra.run.dir=run")


def make_sweep(job: Path, sweep: Path, jobs: int) -> None:
    """Write a sweep of `jobs` run folders like `job`."""
    config, metrics = (job / "config.yaml").read_text(), json.loads((job / "metrics.json").read_text())
    header, *_, last = (job / "curves.csv").read_text().splitlines(keepends=True)
    rest = last.split(",", 2)[2]
    plan = {}
    for i in range(jobs):
        batch = BATCH_SIZES[i % len(BATCH_SIZES)]
        size, seed = LATENT_DIMS[i // len(BATCH_SIZES) % len(LATENT_DIMS)], i // len(BATCH_SIZES) // len(LATENT_DIMS)
        folder = sweep / f"batch_size_{batch}-latent_dim_{size}-seed_{seed}-{i:08x}"
        folder.mkdir(parents=True)
        for name in ("record.json", "status.json", "train.log"):
            shutil.copy(job / name, folder)
        for name in ("figures", "evaluations"):
            shutil.copytree(job / name, folder / name)
        (folder / "curves.csv").write_text("".join([header, *(f"{100 * k},{k},{rest}" for k in range(1, 201))]))
        own = config.replace("\nlatent_dim: 2\n", f"\nlatent_dim: {size}\n").replace("\nseed: 0\n", f"\nseed: {seed}\n")
        own = own.replace("\nbatch_size: 100\n", f"\nbatch_size: {batch}\n")
        (folder / "config.yaml").write_text(own)
        own_metrics = metrics | {"test/log_likelihood": metrics["test/log_likelihood"] + size + i % 7}
        (folder / "metrics.json").write_text(json.dumps(own_metrics))
        plan[folder.name] = [f"batch_size={batch}", f"latent_dim={size}", f"seed={seed}"]
    (sweep / "sweep.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "jobs": plan}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000, help="(default 1000)")
    parser.add_argument("--like", type=Path, help="a finished run folder of latent_dim=2, with figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = arguments.like or Path(folder) / "run"
        if arguments.like is None:
            subprocess.run([sys.executable, "-m", "vaelab.train", *TRAIN], cwd=folder, check=True, capture_output=True)
        make_sweep(job, Path(folder) / "sweep", arguments.jobs)
        start = time.perf_counter()
        command = [sys.executable, "-m", "vaelab.report", "sweep=sweep", "wandb_mode=disabled"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"the report failed: {status}")
        size = (Path(folder) / "sweep" / "report.html").stat().st_size
    print("| jobs | seconds | CPU seconds | MiB of memory | MiB of page |\n| ---: | ---: | ---: | ---: | ---: |")
    busy = used.ru_utime + used.ru_stime
    print(f"| {arguments.jobs} | {seconds:.1f} | {busy:.1f} | {used.ru_maxrss / 1024:.0f} | {size / 2**20:.1f} |")


if __name__ == "__main__":
    main()
