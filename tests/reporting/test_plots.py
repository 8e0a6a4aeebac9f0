"""The plots of a group: their lines, their points and their axes."""

import math
import statistics
from pathlib import Path

import pytest

from tests.helpers.reports import plots
from tests.helpers.sweep_folders import finished_job, plan
from vaelab.reporting.gathering import gather
from vaelab.reporting.plots import Axes


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
    assert [trace["y"] for trace in drawn["Active units by latent_dim"]["data"]] == [[2, 5]] * 3  # the last: all units


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
