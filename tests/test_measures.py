import math

import pytest

from vaelab.measures import bits_per_dim


def test_a_uniform_mass_over_256_levels_is_8_bits():
    nats = -12 * math.log(256)
    assert bits_per_dim(nats, (1, 4, 3), "mass", "levels", 256) == pytest.approx(8)


def test_a_uniform_density_over_dequantised_pixels_is_8_bits():
    assert bits_per_dim(0.0, (1, 4, 3), "density", "unit", 256) == pytest.approx(8)


def test_seventeen_levels_have_their_own_jacobian():
    assert bits_per_dim(0.0, (1, 8, 8), "density", "unit", 17) == pytest.approx(math.log2(17))


def test_published_pair_of_nats_and_bits():
    assert bits_per_dim(1234, (1, 28, 20), "density", "unit", 256) == pytest.approx(4.82, abs=0.005)


def test_binary_data_have_none():
    assert bits_per_dim(-100, (1, 28, 28), "mass", "binary", 256) is None
