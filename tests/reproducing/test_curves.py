"""Curves in the course of training: their points, and that measuring changes no bit."""

from types import SimpleNamespace

import pytest
import torch

from tests.helpers.commands import Outcome, Run, assert_same_weights
from vaelab import load
from vaelab.reproducing import BoundCurve
from vaelab.reproducing.curves import curve, draw, drawn, mean

EPOCH = 1438  # examples
BOUND = "+callbacks.bound._target_=vaelab.reproducing.BoundCurve"


def test_points_are_evenly_spaced_on_a_logarithmic_axis():
    assert sorted(drawn(24)) == [1, 2, 3, 4, 6, 8, 11, 16, 23]
    assert drawn(16) == drawn(22)


def test_the_mean_curve_has_the_mean_values():
    assert mean([[[1.0, 2.0], [2.0, 4.0]], [[1.0, 4.0], [2.0, 8.0]]]) == [[1.0, 3.0], [2.0, 6.0]]


@pytest.mark.slow
def test_measuring_changes_no_bit_of_the_training(run_fast: Run) -> None:
    measured = run_fast("trainer.max_epochs=5", BOUND)
    assert_same_weights(measured.path, run_fast("trainer.max_epochs=5").path)
    run = load(measured.path)
    assert [x for x, _ in curve(run, "bound/train")] == [epoch * EPOCH for epoch in (1, 2, 3, 4, 5)]
    assert curve(run, "bound/test")[-1][1] == pytest.approx(run.metrics["test/elbo"], abs=1)


def test_bounds_are_those_of_the_first_examples(finished: Outcome) -> None:
    run = load(finished.path)
    module = SimpleNamespace(vae=run.vae, data=run.data, device=torch.device("cpu"), seed=0)
    first, again = BoundCurve(20).measure(module), BoundCurve(20).measure(module)
    assert first == again
    assert first != BoundCurve(40).measure(module)


def test_a_label_has_the_colour_of_its_method():
    points = [[1.0, 2.0], [2.0, 3.0]]
    figure = draw([{"left": {"A, train": points, "A, test": points, "B, test": points}, "right": {"A, test": points}}])
    left, right = figure.axes
    lines = left.get_lines()
    assert [line.get_linestyle() for line in lines] == ["-", ":", ":"]
    assert lines[0].get_color() == lines[1].get_color() == right.get_lines()[0].get_color() != lines[2].get_color()
    assert [axes.get_title() for axes in figure.axes] == ["left", "right"]
