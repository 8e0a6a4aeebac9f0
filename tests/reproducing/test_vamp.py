"""The masses of the VampPrior's authors, which do not sum to 1."""

import numpy as np
import torch
from scipy.stats import logistic

from vaelab.distributions.logistic import Logistic
from vaelab.reproducing.vamp import FLOOR, masses_without_ends

LEVELS = torch.arange(16.0, dtype=torch.float64)


def test_a_mass_is_that_of_the_logistic_between_the_ends_of_a_level():
    pixels = Logistic(torch.tensor(0.4, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))
    found = masses_without_ends(pixels, LEVELS, 16)
    expected = np.diff(logistic.cdf(np.arange(17) / 16, 0.4, 0.1)) + FLOOR
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.sum() < 0.99  # what lies outside of [0, 1] is lost


def test_the_mean_is_kept_half_a_level_inside():
    far = Logistic(torch.tensor(5.0, dtype=torch.float64), torch.tensor(0.1, dtype=torch.float64))
    expected = np.diff(logistic.cdf(np.arange(17) / 16, 1 - 1 / 32, 0.1)) + FLOOR
    np.testing.assert_allclose(masses_without_ends(far, LEVELS, 16), expected, rtol=1e-9)
