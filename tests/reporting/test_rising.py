"""Which learning curves count as still rising at their end."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.sweep_folders import finished_job, keep_curve
from vaelab.reporting.gathering import gather
from vaelab.reporting.rising import rise_at_the_end
from vaelab.runs.folder.curves import Curve


def curve(points: int, rate: float, noise: float, seed: int) -> Curve:
    """A bound that nears -100 as `30 exp(-rate epoch)` falls, with noise."""
    epochs = np.arange(1, points + 1)
    drawn = np.random.default_rng(seed).normal(0, noise, points)
    return [*zip((100.0 * epochs).tolist(), (-100 - 30 * np.exp(-rate * epochs) + drawn).tolist(), strict=True)]


@pytest.mark.parametrize("points", [8, 20, 200])
def test_a_curve_that_rises_to_its_end_rises(points: int) -> None:
    for seed in range(20):
        assert rise_at_the_end([curve(points, 2 / points, 0.05, seed)]) is not None


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("points", [4, 6, 8, 20, 100])
def test_a_flat_curve_with_noise_rarely_rises(points: int, seeds: int) -> None:
    flat = [[curve(points, 1e9, 0.3, seeds * i + seed) for seed in range(seeds)] for i in range(300)]
    assert sum(rise_at_the_end(curves) is not None for curves in flat) <= 0.05 * 300


@pytest.mark.parametrize("points", [8, 20, 200])
def test_a_curve_that_has_converged_rarely_rises(points: int) -> None:
    found = [rise_at_the_end([curve(points, 12 / points, 0.3, seed + 3 * i) for i in range(3)]) for seed in range(100)]
    assert sum(rise is not None for rise in found) <= 5


def test_a_curve_that_falls_at_its_end_does_not_rise() -> None:
    assert rise_at_the_end([[(x, y) for x, y in enumerate((-9.0, -5.0, -3.0, -4.0, -5.0, -6.0, -7.0))]]) is None


@pytest.mark.parametrize("points", [6, 99])
def test_the_size_is_the_rise_in_the_last_fifth_of_training(points: int) -> None:
    curved = [(float(x), 2.0 * x - 0.004 * x**2) for x in np.linspace(100 / points, 100, points)]
    assert rise_at_the_end([curved, curved]) == pytest.approx(2.0 * 20 - 0.004 * (100**2 - 80**2))


def test_a_flat_curve_does_not_rise() -> None:
    assert rise_at_the_end([[(100.0 * x, -99.7) for x in range(200)]]) is None


def test_too_few_validations_say_nothing() -> None:
    assert rise_at_the_end([[(float(x), float(x)) for x in range(5)]]) is None
    assert rise_at_the_end([]) is None


def test_the_report_says_which_settings_to_train_longer(sweep: Path) -> None:
    for size, rate in ((2, 0.6), (3, 0.05)):
        keep_curve(finished_job(sweep, f"latent_dim={size}", value=-3), curve(20, rate, 0.01, 0))
    report = gather(sweep)
    sentence = report.headlines[1][-1]
    assert sentence.startswith("the validation bound still rose in the last fifth of training: latent_dim=3 (by 2.")
    assert sentence.endswith(" nats); train longer")
