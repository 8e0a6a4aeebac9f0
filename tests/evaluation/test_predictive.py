"""The predictive check, on models whose predictions are right, or wrong in a way with a closed form."""

import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy.stats import binom, norm

from tests.helpers.distributions import assert_ranks_are_uniform
from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.data.batches import Blocks
from vaelab.distributions import Logistic, Quantised
from vaelab.evaluation.predictive import (
    COVERAGES,
    NUM_RANKS,
    NUM_SAMPLES,
    OUTSIDE,
    RANK_HISTOGRAM,
    is_checked,
    predictive_check,
    predictive_summary,
    rank_histogram,
)


def checked(scale=1.0, shift=0.0):
    """The check of a model that is exactly right, except for the scale and the mean of its pixels."""
    torch.manual_seed(0)
    vae, _ = linear_gaussian(5, scale=0.5)
    x = draw_data(vae, 2000)
    with torch.no_grad():
        vae.decoder.head.scale.layer.linear.bias.add_(2 * math.log(scale))
        vae.decoder.head.loc.linear.bias.add_(0.5 * shift)
        return predictive_check(vae, x)[RANK_HISTOGRAM]


def summary_of(histograms):
    return predictive_summary(histograms.double(), torch.zeros(len(histograms)))


def test_ranks_of_an_exactly_right_model_are_uniform():
    histograms = checked()
    assert_ranks_are_uniform(histograms)
    assert summary_of(histograms)["miscalibration"] < 0.01


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0), (0.8, 0), (1.25, 0), (2.0, 0), (1, -0.5), (0.7, 0.3)])
def test_a_wrong_scale_or_mean_has_the_ranks_of_its_closed_form(scale, shift):
    histograms = checked(scale, shift)
    errors = norm.ppf((np.arange(5000) + 0.5) / 5000)  # of pixels, in their true standard deviations
    cdf = norm.cdf((errors - shift) / scale)[:, None]  # of each pixel, in the model's eyes
    assert_ranks_are_uniform(histograms, torch.from_numpy(binom.pmf(range(NUM_RANKS), NUM_SAMPLES, cdf).mean(0)))
    found = summary_of(histograms)
    for name, probability in COVERAGES.items():
        end = scale * norm.ppf((1 + probability) / 2)
        inside = norm.cdf(shift + end) - norm.cdf(shift - end)
        assert found[name] == pytest.approx(inside, abs=0.06)  # a few samples blur the interval's ends
    assert found["above_median"] == pytest.approx(norm.cdf(-shift), abs=0.03)


PARAMETERS = torch.linspace(0.001, 0.999, 200).expand(400, -1)
RIGHT = {
    "binary": td.Bernoulli(PARAMETERS),
    "levels": Quantised(Logistic(PARAMETERS, torch.tensor(0.1)), 16),
    "levels without a limit": td.Poisson(5 * PARAMETERS),
    "nothing but ties": td.Bernoulli(torch.ones(400, 200)),
}


@pytest.mark.parametrize("pixels", RIGHT)
def test_ties_are_broken_at_random(pixels):
    torch.manual_seed(0)
    assert_ranks_are_uniform(rank_histogram(RIGHT[pixels], RIGHT[pixels].sample()))


def test_binary_pixels_that_are_predicted_too_surely_lie_outside():
    torch.manual_seed(0)
    logits = torch.linspace(-3, 3, 1000).expand(200, -1)
    found = summary_of(rank_histogram(td.Bernoulli(logits=3 * logits), td.Bernoulli(logits=logits).sample()))
    assert found["coverage_90"] < 0.88
    assert found["above_median"] == pytest.approx(0.5, abs=0.01)


def test_only_the_first_examples_are_checked_and_no_block_twice():
    blocks = [block for block in Blocks(450, 100, part_size=20) if is_checked(block)]
    assert [(block.number, len(block)) for block in blocks] == [(0, 100), (1, 100)]


def test_errors_count_examples_and_not_pixels():
    histograms = torch.zeros(4, NUM_RANKS)
    histograms[:2, 10], histograms[2:, 0] = 1, 1  # two images all inside, two all below
    found = summary_of(histograms)
    assert (found["coverage_50"], found["coverage_90"], found["above_median"]) == (0.5, 0.5, 0.5)
    assert found["coverage_90_error"] == pytest.approx(math.sqrt(1 / 3) / 2)
    assert found["miscalibration"] == pytest.approx(18 / 20)


def test_mass_outside_of_the_pixels_range_is_that_of_its_closed_form():
    torch.manual_seed(0)
    vae, _ = linear_gaussian(5, scale=0.5)
    x = draw_data(vae, 2000)
    with torch.no_grad():
        p = vae.decode(vae.encode(x).sample())
        found = predictive_summary(torch.zeros(len(x), NUM_RANKS).double(), predictive_check(vae, x)[OUTSIDE].double())
    inside = norm.cdf((1 - p.mean) / p.stddev) - norm.cdf(-p.mean / p.stddev)
    assert found["outside_range"] == pytest.approx(1 - inside.mean(), abs=4 * found["outside_range_error"] + 0.01)
    assert 0 < found["outside_range_error"] < 0.02
