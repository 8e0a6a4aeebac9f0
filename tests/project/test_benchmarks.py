"""The benchmarks run, and their tables hold what they say. No test looks at a time."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.commands import ROOT

QUICK = ("--rounds", "2", "--seconds", "0.05", "--network", "200-50")


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cells(table: str) -> dict[str, list[str]]:
    """The rows of Markdown tables, by their first cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.slow
def test_the_plain_loop_and_its_products_are_timed_and_written_down(tmp_path: Path) -> None:
    out = run("run.py", *QUICK, "--only", "plain", "--out", str(tmp_path))
    assert out.startswith((tmp_path / "results.md").read_text())
    rows = cells(out)
    assert rows["plain loop, fused Adam"][1].startswith("1.00 (1.00 to 1.00)")
    assert float(rows["matrix products alone"][0]) > 0
    found = json.loads((tmp_path / "results.json").read_text())
    (network,) = found["networks"].values()
    assert [len(row["ms"]) for row in network.values()] == [2, 2]
    assert found["machine"]["torch"]


@pytest.mark.slow
def test_every_contender_that_needs_no_gpu_and_nothing_else_is_timed(tmp_path: Path) -> None:
    rows = cells(run("run.py", *QUICK, "--out", str(tmp_path)))
    timed = {label for label, row in rows.items() if re.match(r"\d", row[0])}
    assert {label for label in rows if label.startswith("vaelab")} <= timed
    assert {"plain loop, default Adam", "usual Lightning + DataLoader"} <= timed
    assert rows["pythae"] == [""] * 3
    notes = (tmp_path / "results.md").read_text()
    assert "- pythae: left out" in notes
    assert "failed" not in notes
    assert len(re.findall(r"of the time of one after another", notes)) == 2


@pytest.mark.slow
def test_an_unknown_contender_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run("run.py", "--only", "plane")
    assert "unknown: plane" in caught.value.stderr


@pytest.mark.slow
def test_the_breakdown_adds_up() -> None:
    rows = cells(run("breakdown.py", "--network", "200-50", "--steps", "20"))
    totals = ("total", "without the profiler")
    parts = [float(row[0]) for label, row in rows.items() if label not in totals and re.match(r"-?\d", row[0])]
    assert len(parts) >= 5
    assert sum(parts) == pytest.approx(float(rows["total"][0]), abs=0.1)


@pytest.mark.slow
def test_the_start_is_timed_up_to_the_first_step() -> None:
    rows = cells(run("start.py", "--rounds", "1"))
    times = {label: float(row[0].split()[0]) for label, row in rows.items() if re.match(r"\d", row[0])}
    assert {"import torch", "first optimiser step, logger=none", "first optimiser step, logger=wandb"} <= times.keys()
    assert min(times.values()) > 0


@pytest.mark.slow
def test_importance_sampling_is_timed_beside_its_products(tmp_path: Path) -> None:
    tiny = ("--examples", "5", "--num-samples", "30", "--block", "2", "--part", "7", "--threads", "1")
    out = run("evaluation.py", *tiny, "--out", str(tmp_path))
    assert out.startswith((tmp_path / "evaluation.md").read_text())
    assert "5 test digits of m" in out.lower()
    rows = cells(out)
    assert rows["matrix products alone"][1].startswith("1.00 (1.00 to 1.00)")
    assert float(rows["importance sampling"][0]) > 0
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert {name: len(seconds) for name, seconds in found["seconds"].items()} == {"importance": 3, "products": 3}
    assert 0 < found["resident_mib"] < 2048


@pytest.mark.slow
def test_sweeps_are_timed(tmp_path: Path) -> None:
    tiny = ("--jobs", "2", "--epochs", "1", "--rounds", "1", "--short", "2", "--finished", "3")
    out = run("sweeps.py", *tiny, "--out", str(tmp_path))
    assert out == (tmp_path / "sweeps.md").read_text()
    assert cells(out)["basic, one thread"][1].startswith("1.00")
    assert "2 jobs of one step: " in out
    assert "Repeating 3 finished jobs takes " in out
