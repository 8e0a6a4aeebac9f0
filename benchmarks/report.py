"""Describe the machine, and format the tables of the benchmarks."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch


class Timed(Protocol):
    """The fields of `run.Row` that the table shows."""

    label: str
    ms: list[float]
    resident_mib: float
    cuda_mib: float
    kernel_ms: float | None
    threads: int
    torch: str
    notes: list[str]


def machine(device: str) -> dict[str, str]:
    """Return a description of the machine."""
    description = {
        "cpu": cpu_name(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    return description | ({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {})


def cpu_name() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def markdown(where: Mapping[str, str], results: Mapping[str, Mapping[str, Timed]], rounds: int) -> str:
    threads = {row.threads for rows in results.values() for row in rows.values() if row.ms}
    device = f"GPU: {where['gpu']}; " if "gpu" in where else "on the CPU; "
    intro = [
        f"{device}{where['cpu']}, {where['cores']} cores, {'/'.join(map(str, sorted(threads)))} threads, "
        f"{where['system']}, Python {where['python']}, PyTorch {where['torch']}",
        "",
        f"Data: {where['data']}. Medians over {rounds} interleaved rounds, in ms per optimiser step; ratios to the "
        "plain fused loop of the same round: median (lowest to highest).",
    ]
    sections = [line for network, rows in results.items() for line in section(network, rows, "gpu" in where)]
    return "\n".join([*intro, *sections]) + "\n"


def section(network: str, rows: Mapping[str, Timed], gpu: bool) -> list[str]:
    columns = ["", "ms per step", "ratio", "peak memory, MiB", *(["on the GPU, MiB", "kernels, ms"] if gpu else [])]
    base = rows["plain"].ms
    lines = ["", f"## {network}", "", line(columns), line(["---"] + ["---:"] * (len(columns) - 1))]
    for row in rows.values():
        cells = [f"{statistics.median(row.ms):.3g}", ratio(row.ms, base), f"{row.resident_mib:.0f}"] if row.ms else []
        if row.ms and gpu:
            cells += [f"{row.cuda_mib:.0f}", "" if row.kernel_ms is None else f"{row.kernel_ms:.3g}"]
        lines.append(line([row.label, *cells, *[""] * (len(columns) - 1 - len(cells))]))
    remarks = [f"- {row.label}: {note}" for row in rows.values() for note in row.notes] + together(rows)
    return [*lines, *(["", *remarks] if remarks else [])]


def together(rows: Mapping[str, Timed]) -> list[str]:
    """Compare training many seeds together with training them one after another."""
    alone = "vaelab-graph" if "vaelab-graph" in rows else "vaelab-scan"
    together = [name for name in ("vaelab-stacked", "vaelab-processes") if name in rows and rows[name].ms]
    if alone not in rows or not rows[alone].ms:
        return []
    return [
        f"- {rows[name].label}: {ratio(rows[name].ms, rows[alone].ms)} of the time of one after another"
        for name in together
    ]


def ratio(ms: Sequence[float], base: Sequence[float]) -> str:
    ratios = [mine / other for mine, other in zip(ms, base, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
