"""The plots of a group: their lines, their points and their axes."""

import math
import statistics
from pathlib import Path

import pytest

from tests.helpers.reports import plots
from tests.helpers.sweep_folders import finished_job, keep_curve, plan
from vaelab.reporting.gathering import gather
from vaelab.reporting.learning import learning_panel, thinned
from vaelab.reporting.plots import Axes, Panel, scores_panel


def test_a_point_is_the_mean_and_standard_error_over_seeds(sweep: Path) -> None:
    values = (-3.0, -4.0, -4.5)
    for seed, value in enumerate(values):
        finished_job(sweep, "latent_dim=2", f"seed={seed}", value=value)
    finished_job(sweep, "latent_dim=5", "seed=0", value=-2)
    trace, dots = plots(gather(sweep))["log p(x) by latent_dim"]["data"]
    assert trace["x"] == [2, 5]
    assert trace["y"] == pytest.approx([statistics.mean(values), -2])
    assert trace["y_spread"] == pytest.approx([statistics.stdev(values) / math.sqrt(3), None])
    assert "latent_dim_2-seed_1" in trace["text"][0]
    assert sorted(dots["y"]) == sorted(values)


def test_each_decoder_has_its_line(sweep: Path) -> None:
    for name in ("gaussian", "logistic"):
        for size in (2, 5):
            finished_job(sweep, f"decoder={name}", f"latent_dim={size}", value=size, pixels="unit", active=size)
    drawn = plots(gather(sweep))
    lines = {trace["name"]: trace["style"] for trace in drawn["log p(x) by latent_dim"]["data"]}
    assert set(lines) == {"decoder=DiagonalGaussian PerPixelScale", "decoder=Logistic PerPixelScale"}
    assert {trace["name"]: trace["style"] for trace in drawn["Rate and distortion"]["data"]} == lines
    assert [trace["y"] for trace in drawn["Active units by latent_dim (dotted: all units)"]["data"]] == [
        [2, 5]
    ] * 3  # the last: all units


@pytest.mark.parametrize(
    ("jobs", "x", "lines"),
    [
        ([("seed=0",), ("seed=1",)], None, []),
        (
            [("objective.beta=1", "decoder=bernoulli"), ("objective.beta=4", "decoder=gaussian")],
            *("objective.beta", ["decoder"]),
        ),
        ([("decoder=bernoulli",), ("decoder=gaussian",)], "decoder", []),
        ([("batch_size=10", "latent_dim=2"), ("batch_size=20", "latent_dim=3")], "latent_dim", ["batch_size"]),
    ],
)
def test_x_is_latent_dim_or_else_a_number_that_differs(
    jobs: list[tuple[str, ...]], x: str | None, lines: list[str], sweep: Path
) -> None:
    plan(sweep, *jobs)
    axes = Axes(gather(sweep))
    assert (axes.x, axes.lines) == (x, lines)


def test_the_lines_of_the_best_settings_are_drawn(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.reporting.plots.MOST_LINES", 2)
    for i in range(3):
        for size in (2, 5):
            finished_job(sweep, f"optimizer.lr={i + 1}", f"latent_dim={size}", value=-float(i))
    report = gather(sweep)
    panel = scores_panel(report.groups[0], Axes(report))
    assert set(panel.legend) == {"optimizer.lr=1", "optimizer.lr=2"}
    assert panel.left_out == "Drawn are 2 of 3 lines, those of the best settings."


# learning curves


def learning(sweep: Path) -> Panel | None:
    report = gather(sweep)
    return learning_panel(report.groups[0], Axes(report))


def test_a_curve_has_the_colour_of_its_line_and_a_dash_for_its_x(sweep: Path) -> None:
    for name in ("gaussian", "logistic"):
        for size in (5, 2):
            job = finished_job(sweep, f"decoder={name}", f"latent_dim={size}", value=size, pixels="unit")
            keep_curve(job, [(100, -9.0), (200, -5.0)])
    panel = learning(sweep)
    assert panel is not None
    found = {label.replace(" PerPixelScale", ""): style for label, style in panel.legend.items()}
    gaussian, logistic = "decoder=DiagonalGaussian, latent_dim=", "decoder=Logistic, latent_dim="
    assert found == {f"{gaussian}2": 0, f"{gaussian}5": 8, f"{logistic}2": 1, f"{logistic}5": 9}


def test_a_setting_has_a_curve_for_each_seed(sweep: Path) -> None:
    for seed in (0, 1):
        job = finished_job(sweep, "latent_dim=2", f"seed={seed}", value=-1)
        keep_curve(job, [(100, -9.0), (200, -5.0 - seed), (300, math.inf)])
    finished_job(sweep, "latent_dim=3", "seed=0", value=-2)  # has no curve
    panel = learning(sweep)
    assert panel is not None
    assert panel.legend == {"latent_dim=2": 0}
    (trace,) = panel.plots["Learning curves"]["data"]
    assert list(trace["x"]) == [100, 200, None, 100, 200]
    assert list(trace["y"]) == [-9, -5, None, -9, -6]


def test_without_curves_there_is_no_plot_of_them(sweep: Path) -> None:
    finished_job(sweep, value=-1)
    assert learning(sweep) is None


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = [(float(x), -float(x)) for x in range(12_345)]
    found = thinned(curve, 100)
    assert len(found) == 100
    assert (found[0], found[-1]) == (curve[0], curve[-1])


def test_the_axis_leaves_out_the_first_steep_rise(sweep: Path) -> None:
    keep_curve(finished_job(sweep, value=-1), [(x, -1000.0 if x < 2 else -100.0 + x) for x in range(20)])
    panel = learning(sweep)
    assert panel is not None
    low, high = panel.plots["Learning curves"]["layout"]["yaxis"]["range"]
    assert -100 < low < -98
    assert -81 < high < -80
