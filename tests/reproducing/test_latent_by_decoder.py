"""Latent size and decoder: what is made of the measurements, and a whole reproduction at its smallest budget."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.helpers.commands import run_main
from vaelab import reproduce
from vaelab.evaluation.paired import difference
from vaelab.reproducing import Results, Row
from vaelab.reproducing.latent_by_decoder import Measured, against_best, panel_of, ranks_at
from vaelab.reproducing.latent_by_decoder import measured as measured_of
from vaelab.reproducing.results import tables_of_ours
from vaelab.reproducing.size_figures import lines, page, rank_histograms
from vaelab.runs.evaluating.complete import Evaluated

COMMON = np.random.default_rng(0).normal(3.0, 0.5, 40)  # bits of each example, which all models share
NOISE = np.random.default_rng(1)


def found(metrics: dict[str, float], examples: dict[str, torch.Tensor]) -> Evaluated:
    """An evaluation that stands in no file."""
    evaluated = Evaluated(metrics, Path())
    evaluated.__dict__["examples"] = examples
    return evaluated


def measured(bits: float, validation: float) -> Measured:
    examples = COMMON + bits + NOISE.normal(0, 0.01, 40)
    numbers = {"bits/dim": float(examples.mean()), "active units": 4.0}
    return Measured(numbers, validation, {"bits/dim": examples}, torch.full((10, 20), 1 / 20))


CELLS = {  # the validation prefers each decoder's second size, and the laplace
    ("gaussian", 5): [measured(0.0, 9.0), measured(0.1, 9.0)],
    ("gaussian", 20): [measured(0.3, 8.0), measured(0.4, 8.2)],
    ("laplace", 5): [measured(0.1, 7.5), measured(0.1, 7.5)],
    ("laplace", 20): [measured(0.2, 7.0), measured(0.2, 7.1)],
}
PANELS = {"faces <1>": panel_of("faces <1>", CELLS)}


def test_the_validation_chooses_what_is_compared():
    (row,) = against_best("faces", CELLS)
    assert (row.setting, row.quantity) == ("faces, gaussian, N_z = 20", "bits/dim above laplace, N_z = 20")


def test_differences_are_paired_by_example():
    (row,) = against_best("faces", CELLS)
    expected = difference(*([run.examples["bits/dim"] for run in CELLS[name, 20]] for name in ("gaussian", "laplace")))
    assert row.mean == pytest.approx(expected.mean)
    assert row.half_width == expected.half_width
    assert expected.of_examples < 0.01 * panel_of("faces", CELLS)["gaussian", 20]["bits/dim"].error ** 2  # it cancels


def test_a_difference_is_told_apart_by_its_interval():
    (row,) = against_best("faces", CELLS)
    row.values, row.half_width = [0.1, 0.3], 0.15
    assert (row.verdict, row.interval) == ("apart", "+0.050 to +0.350")
    row.half_width = 0.25
    assert row.verdict == "cannot be told apart"


def test_bits_have_the_error_of_the_choice_of_examples():
    row = panel_of("faces", CELLS)["laplace", 5]["bits/dim"]
    mean = (sum(run.examples["bits/dim"] for run in CELLS["laplace", 5])) / 2
    assert row.values == [run.examples["bits/dim"].mean() for run in CELLS["laplace", 5]]
    assert row.error == pytest.approx(mean.std(ddof=1) / math.sqrt(40))


def test_a_density_is_scored_twice():
    nats = torch.tensor([1250.0, 1100.0])
    run: Any = SimpleNamespace(record={"data": {"event_shape": [1, 28, 20]}}, metrics={"best/val/bits_per_dim": 4.0})
    numbers = {
        "active_units": 3,
        **dict.fromkeys(("pareto_k_bad", "coverage_50", "coverage_90", "miscalibration"), 0.5),
    }
    examples = {"log_likelihood": nats, "rank_histogram": torch.ones(2, 20)}
    as_mass = found(numbers | {"log_likelihood_bits_per_dim": 4.5}, examples)
    as_density = found({"log_likelihood_bits_per_dim": 5.0}, {"log_likelihood": nats})
    both, alone = measured_of(run, as_mass, as_density), measured_of(run, as_mass, None)
    assert (both.numbers["bits/dim"], both.numbers["bits/dim as a density"]) == (4.5, 5.0)
    assert both.examples.keys() == {"bits/dim", "bits/dim as a density"}
    assert alone.examples.keys() == {"bits/dim"}
    rows = panel_of("faces", {("gaussian", 5): [both, both]})["gaussian", 5]
    assert rows["bits/dim as a density"].error == rows["bits/dim"].error > 0


def test_ranks_are_averaged_over_seeds():
    first, second = torch.eye(20)[:10], torch.eye(20)[10:]
    runs = [Measured({}, 0.0, {}, ranks) for ranks in (first, second)]
    found = ranks_at({("gaussian", 5): runs, ("gaussian", 20): runs[:1]}, 5)
    torch.testing.assert_close(found, {"gaussian": (first + second) / 2})


def test_our_numbers_have_a_column_for_each_quantity():
    panel = panel_of("faces", CELLS)
    rows = [row for rows in panel.values() for row in rows.values()]
    (compared,) = against_best("faces", CELLS)
    table, _, differences = tables_of_ours([*rows, compared])
    head, _, first, *others = table.splitlines()
    assert head == "| setting | bits/dim | active units |"
    assert first == f"| faces, gaussian, N_z = 5 | {rows[0].shown} | 4.0 ± 0.0 |"
    assert len(others) == 3
    assert differences.splitlines()[2].endswith(f"| {compared.interval} | {compared.verdict} |")


def test_a_number_without_runs_says_so():
    assert Row("faces, gaussian, N_z = 5", "bits/dim", []).shown == "not run at this budget"


def test_the_curves_have_means_and_errors_of_each_decoder():
    (axes,) = lines(PANELS).axes
    assert [each.get_label() for each in axes.containers] == ["gaussian", "laplace"]
    drawn = axes.get_lines()[0].get_xydata()
    means = [np.mean([run.examples["bits/dim"].mean() for run in CELLS["gaussian", size]]) for size in (5, 20)]
    np.testing.assert_allclose(np.asarray(drawn), np.column_stack([[5, 20], means]))


def test_each_decoder_has_a_rank_histogram():
    figure = rank_histograms({"faces": ranks_at(CELLS, 20)})
    assert [len(axes.patches) for axes in figure.axes] == [20, 20]
    assert "laplace\ninside 50%: 50.0%, 90%: 90.0%" in figure.axes[1].get_title()


def test_the_page_tells_every_number_of_a_point():
    html = page("faces & digits", PANELS)
    assert "<title>faces &amp; digits</title>" in html
    assert "<1>" not in html  # of the data set's name
    row = PANELS["faces <1>"]["gaussian", 20]["bits/dim"]
    for told in ("gaussian, N_z = 20", f"{row.values[0]:.3f}, {row.values[1]:.3f}", "active units: 4.0"):
        assert told in html
    assert "https://cdn.plot.ly/" in html
    assert len(html) < 30_000


@pytest.mark.exhaustive  # test_reproduce.py runs this budget too
@pytest.mark.slow
def test_the_smallest_budget_writes_table_figures_and_page(tmp_path):
    out = run_main(reproduce.main, tmp_path, "latent_by_decoder", "budget=smoke").out
    folder = tmp_path / "reproductions"
    results = Results.read(folder / "latent_by_decoder-smoke.json")
    text = (folder / "latent_by_decoder-smoke.md").read_text()
    assert results.as_markdown() == text
    assert text in out
    assert "| digits, gaussian, N_z = 2 |" in text
    assert "bits/dim above" in text
    for title, file in (results.figures | results.pages).items():
        assert f"[{title}]({file})" in text
        assert 1_000 < (folder / file).stat().st_size < 300_000
    density, mass = (
        next(row for row in results.rows if row.quantity == name) for name in ("bits/dim as a density", "bits/dim")
    )
    assert density.mean > mass.mean > 0  # the density wastes what lies outside of [0, 1]
