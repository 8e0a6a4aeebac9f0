"""The benchmarks run, and their tables hold what they say. No test looks at a time."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.commands import ROOT, Outcome, run_main

pytestmark = pytest.mark.slow
FOLDER = ROOT / "benchmarks"
QUICK = ("--rounds", "2", "--seconds", "0.05", "--network", "200-50")


def run(script: str, *arguments: str, code: int = 0) -> Outcome:
    """Run a script in this process, because another one takes seconds to start."""

    def main() -> None:
        sys.path.insert(0, str(FOLDER))
        runpy.run_path(str(FOLDER / script), run_name="__main__")

    threads = torch.get_num_threads()
    try:
        return run_main(main, Path.cwd(), *arguments, code=code)
    finally:
        torch.set_num_threads(threads)


def cells(table: str) -> dict[str, list[str]]:
    """The rows of Markdown tables, by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def test_the_plain_loop_and_its_products_are_timed(tmp_path):
    out = run("run.py", *QUICK, "--only", "plain,vaelab-scan", "--out", str(tmp_path)).out
    assert out.startswith((tmp_path / "results.md").read_text())
    rows = cells(out)
    assert rows["plain loop, fused Adam"][1].startswith("1.00 (1.00 to 1.00)")
    assert float(rows["matrix products alone"][0]) > 0
    assert float(rows["vaelab, scanned"][0]) > 0
    assert "- vaelab" not in out  # no note, such as that its steps were taken one by one


@pytest.mark.exhaustive
def test_every_contender_that_needs_no_gpu_is_timed(tmp_path):
    out = run("run.py", *QUICK, "--out", str(tmp_path)).out
    rows = cells(out)
    timed = {label for label, row in rows.items() if re.match(r"\d", row[0])}
    assert {label for label in rows if label.startswith("vaelab")} <= timed
    assert {"plain loop, default Adam", "usual Lightning + DataLoader"} <= timed
    assert "- pythae: left out" in out
    assert "failed" not in out
    assert len(re.findall(r"of the time of one after another", out)) == 2


def test_an_unknown_contender_is_refused():
    assert "unknown: plane" in run("run.py", "--only", "plane", code=2).err


def test_the_breakdown_adds_up():
    rows = cells(run("breakdown.py", "--network", "200-50", "--steps", "20").out)
    totals = ("total", "without the profiler")
    parts = [float(row[0]) for label, row in rows.items() if label not in totals and re.match(r"-?\d", row[0])]
    assert len(parts) >= 5
    assert sum(parts) == pytest.approx(float(rows["total"][0]), abs=0.1)


@pytest.mark.exhaustive
def test_the_start_is_timed_up_to_the_first_step():
    rows = cells(run("start.py", "--rounds", "1").out)
    assert {"import torch", "first optimiser step, logger=none", "first optimiser step, logger=wandb"} <= rows.keys()


def test_importance_sampling_is_timed_beside_its_products(tmp_path):
    tiny = ("--examples", "5", "--num-samples", "30", "--block", "2", "--part", "7", "--threads", "1")
    out = run("evaluation.py", *tiny, "--out", str(tmp_path)).out
    assert out.startswith((tmp_path / "evaluation.md").read_text())
    assert cells(out)["matrix products alone"][1].startswith("1.00 (1.00 to 1.00)")


@pytest.mark.exhaustive
def test_sweeps_are_timed(tmp_path):
    tiny = ("--jobs", "2", "--epochs", "1", "--rounds", "1", "--short", "2", "--finished", "3")
    out = run("sweeps.py", *tiny, "--out", str(tmp_path)).out
    assert cells(out)["basic, one thread"][1].startswith("1.00")
    assert "2 jobs of one step: " in out
    assert "Repeating 3 finished jobs takes " in out


@pytest.mark.parametrize(("new", "verdict", "code"), [(1.2, "worse", 1), (0.8, "better", 0), (1.0, "the same", 0)])
def test_a_ratio_that_became_worse_is_a_failure(tmp_path, new, verdict, code):
    for name, ratio in (("old", 1.0), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps({"ratios": {"a step": [ratio, ratio + 0.05]}}))
    printed = run("compare.py", str(tmp_path / "old"), str(tmp_path / "new"), code=code).out
    assert cells(printed)["a step"][2] == verdict


def test_an_estimate_is_compared_with_quadrature(copied, run_evaluate):
    run_evaluate(f"run_dir={copied}", "limit=20", "estimator=importance", "num_samples=2000", "inference_gap=false")
    exact, estimate = run("quadrature.py", str(copied), "--limit", "20", "--step", "0.1").out.splitlines()[-2:]
    fine, coarse = map(float, re.findall(r"-\d+\.\d+", exact))
    assert fine == pytest.approx(coarse, abs=0.001)
    assert float(re.search(r"}: (-\d+\.\d+)", estimate)[1]) == pytest.approx(fine, abs=0.1)
    assert ", 0 off by more than 0.5" in estimate
