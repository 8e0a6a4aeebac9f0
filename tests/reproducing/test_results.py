"""Verdicts, and the page of the results."""

import math

import pytest
from scipy.stats import t

from tests.helpers.commands import ROOT
from vaelab.reproducing import Results, Row


def row(*values: float, **known) -> Row:
    return Row("setting", "NLL, nats", list(values), **known)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (row(), "not run at this budget"),
        (row(1.0), ""),
        (row(2.0, 2.1, published=2.05), "agrees"),
        (row(2.0, 2.0, published=2.5), "differs by -0.50"),
        (
            row(2.0, 2.0, published=1.5, why="it was trained for less long"),
            "differs by +0.50, most likely because it was",
        ),
        (row(2.0, published=1.5, replications={"a": 2.5}), "within the spread of replications"),
        (row(2.6, published=1.5, replications={"a": 2.5}), "differs by +0.10"),
        (row(2.5, 2.7, published=1.5, replications={"a": 2.5}), "within the spread of replications"),
        (row(2.6, published=1.5, error=0.1, spread=0.6), "agrees"),
        (row(2.6, published=1.5, error=0.1, spread=0.5), "differs by +1.10"),
        (row(2.6, 2.6, published=2.5, error=0.06), "agrees"),
        (row(2.6, half_width=0.1), "apart"),
        (row(0.6, half_width=0.7), "cannot be told apart"),
        (row(0.5, 0.52, claimed_above=0.0), "holds"),
        (row(0.5, 0.6, 0.7, claimed_above=0.3), "holds"),
        (row(0.5, 0.6, 0.7, claimed_above=0.4), "open"),  # Student's t: 0.6 +- 0.25
        (row(0.5, claimed_above=0.0), "holds, in one run"),
        (row(0.5, claimed_above=0.0, error=0.1), "holds"),
        (row(0.5, claimed_above=0.0, error=0.3), "open"),
        (row(-0.5, -0.52, claimed_above=0.0), "does not hold"),
        (row(-0.5, 0.6, claimed_above=0.0), "open: the limit is inside"),
    ],
)
def test_the_verdict(found, verdict):
    assert found.verdict.startswith(verdict)


def test_the_interval_is_over_seeds_and_of_what_they_share():
    found = row(1.0, 2.0, 3.0, error=0.3)
    assert (found.mean, found.deviation) == (2.0, 1.0)
    of_seeds = t(2).ppf(0.975) / math.sqrt(3)
    assert found.margin == pytest.approx(math.hypot(of_seeds, 2 * 0.3))


def results(**more) -> Results:
    rows = [row(1.25, 1.75, published=1.6, replications={"theirs": 1.4}), row(published=2.0)]
    about = {
        "title": "a title",
        "source": "a source",
        "command": "a command",
        "date": "2026-01-01",
        "machine": "a machine",
        "protocol": {"epochs": 3, "overrides": "a=1"},
    }
    return Results("name", budget="cpu", seeds=[0, 1], runs=2, seconds=300.0, rows=rows, **about, **more)


def test_the_page_has_all_numbers():
    page = results(figures={"a curve": "curve.png"}, notes=["a note"]).as_markdown()
    assert "| setting | quantity | published | theirs | ours | verdict |" in page
    assert "| setting | NLL, nats | 1.60 | 1.40 | **1.50 ± 3.18** (0.35) | within the spread of replications |" in page
    assert "| setting | NLL, nats | 2.00 |  |  | not run at this budget |" in page
    assert "As run: epochs: `3`; overrides: `a=1`." in page
    assert "Runs: 2, seeds 0, 1, 5.0 minutes of run time in all." in page
    assert "![a curve](curve.png)" in page
    assert "- a note" in page


def test_results_are_read_as_they_were_written(tmp_path):
    file = tmp_path / "name.json"
    file.write_text(results(curves={"a curve": [[1.0, 2.0]]}).as_json())
    assert Results.read(file) == results(curves={"a curve": [[1.0, 2.0]]})


@pytest.mark.parametrize("file", sorted((ROOT / "docs" / "reproductions").glob("*.json")), ids=lambda file: file.stem)
def test_committed_pages_follow_from_their_json(file):
    found = Results.read(file)
    assert file.with_suffix(".md").read_text() == found.as_markdown()
    assert all((file.parent / name).exists() for name in [*found.figures.values(), *found.pages.values()])
