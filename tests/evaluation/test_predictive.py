"""The predictive check, on models whose predictions are right, or wrong in a way with a closed form."""

import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy.stats import binom, kstest, norm

from tests.helpers.linear_gaussian import draw_data, linear_gaussian
from vaelab.data.batches import Blocks
from vaelab.distributions import Logistic, Quantised
from vaelab.evaluation.predictive import (
    COVERAGES,
    NUM_BINS,
    NUM_SAMPLES,
    is_checked,
    predictive_summary,
    randomised_ranks,
    rank_histogram,
)

NORMAL = {name: norm.ppf((1 + level) / 2) for name, level in COVERAGES.items()}  # half the width of its intervals


def checked(scale=1.0, shift=0.0, n=2000):
    """The check of a model that is exactly right, but for the scale and the mean of its pixels."""
    torch.manual_seed(0)
    vae, _ = linear_gaussian(5)
    x = draw_data(vae, n)
    with torch.no_grad():
        vae.decoder.head.scale.layer.linear.bias.add_(2 * math.log(scale))
        vae.decoder.head.loc.linear.bias.add_(shift)
        return rank_histogram(vae, x).double()


def errors_off(found, expected):
    """By how many standard errors each share differs from what is expected."""
    return {name: abs(found[name] - value) / found[f"{name}_error"] for name, value in expected.items()}


def assert_right(histograms):
    found = predictive_summary(histograms)
    assert max(errors_off(found, COVERAGES | {"above_median": 0.5}).values()) < 4


def test_ranks_of_a_right_model_are_uniform():
    histograms = checked()
    torch.testing.assert_close(histograms.sum(1), torch.ones_like(histograms[:, 0]))
    error = histograms.std(0) / len(histograms) ** 0.5
    assert ((histograms.mean(0) - 1 / NUM_BINS).abs() < 4 * error).all()
    assert_right(histograms)
    assert predictive_summary(histograms)["miscalibration"] < 0.01


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2.0])
def test_a_wrong_scale_has_the_coverage_of_its_closed_form(scale):
    found = predictive_summary(checked(scale))
    cdf = norm.cdf(norm.ppf((np.arange(5000) + 0.5) / 5000) / scale)  # of each pixel, in the model's eyes
    for name, level in COVERAGES.items():
        low = round((1 - level) / 2 * (NUM_SAMPLES + 1))
        inside = binom.cdf(NUM_SAMPLES - low, NUM_SAMPLES, cdf) - binom.cdf(low - 1, NUM_SAMPLES, cdf)
        assert errors_off(found, {name: inside.mean()})[name] < 4
        assert found[name] == pytest.approx(2 * norm.cdf(scale * NORMAL[name]) - 1, abs=0.03)  # of endless samples


def test_a_shifted_mean_puts_pixels_on_one_side_of_the_median():
    found = predictive_summary(checked(shift=-0.25))  # half a standard deviation
    assert found["above_median"] == pytest.approx(norm.cdf(0.5), abs=0.01)
    assert found["miscalibration"] == pytest.approx(2 * norm.cdf(0.25) - 1, abs=0.02)  # of N(0, 1) and N(0.5, 1)


PROBABILITIES = torch.linspace(0.001, 0.999, 20_000)
RIGHT = {
    "binary": td.Bernoulli(PROBABILITIES),
    "levels": Quantised(Logistic(PROBABILITIES, torch.tensor(0.1)), 16),
    "counts without a limit": td.Poisson(5 * PROBABILITIES),
    "nothing but ties": td.Bernoulli(torch.ones(20_000)),
}


@pytest.mark.parametrize("pixels", RIGHT)
def test_ties_are_broken_at_random(pixels):
    torch.manual_seed(0)
    ranks = randomised_ranks(RIGHT[pixels], RIGHT[pixels].sample())
    assert kstest(ranks.numpy(), "uniform").pvalue > 0.001
    assert 0 <= ranks.min() <= ranks.max() <= 1


def test_binary_pixels_that_are_predicted_too_surely_lie_outside():
    torch.manual_seed(0)
    right = td.Bernoulli(logits=torch.linspace(-3, 3, 1000).expand(200, -1))
    ranks = randomised_ranks(td.Bernoulli(logits=3 * right.logits), right.sample())
    bins = torch.nn.functional.one_hot((ranks * NUM_BINS).long(), NUM_BINS).double().mean(1)
    found = predictive_summary(bins)
    assert found["coverage_90"] < 0.88
    assert found["above_median"] == pytest.approx(0.5, abs=0.01)


def test_only_the_first_examples_are_checked_and_no_block_twice():
    blocks = [block for block in Blocks(450, 100, part_size=20) if is_checked(block)]
    assert [(block.number, len(block)) for block in blocks] == [(0, 100), (1, 100)]


def test_errors_count_examples_and_not_pixels():
    histograms = torch.zeros(4, NUM_BINS, dtype=torch.float64)
    histograms[:2, 10], histograms[2:, 0] = 1, 1  # two images all inside, two all below
    found = predictive_summary(histograms)
    assert (found["coverage_50"], found["coverage_90"], found["above_median"]) == (0.5, 0.5, 0.5)
    assert found["coverage_90_error"] == pytest.approx(math.sqrt(1 / 3) / 2)
    assert found["miscalibration"] == pytest.approx(18 / 20)
