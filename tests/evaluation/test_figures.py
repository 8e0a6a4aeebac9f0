import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.evaluation import figures


def picture(figure):
    (axes,) = figure.axes
    (image,) = axes.get_images()
    return image.get_array()


def test_images_are_tiled_row_by_row():
    images = torch.arange(5).float().view(5, 1, 1, 1).expand(-1, 1, 2, 3) / 10
    tiles = picture(figures.image_grid(images, columns=3, title=""))
    assert tiles.shape[:2] == (4, 9)
    expected = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.0]])
    np.testing.assert_allclose(tiles[::2, ::3], expected, rtol=1e-6)


def test_three_channels_are_shown_as_red_green_and_blue():
    images = torch.rand(4, 3, 5, 6)
    tiles = picture(figures.image_grid(images, columns=2, title=""))
    assert tiles.shape == (10, 12, 3)
    np.testing.assert_array_equal(tiles[5:, :6], images[2].permute(1, 2, 0))


def test_other_numbers_of_channels_are_averaged_to_grey():
    images = torch.rand(4, 2, 5, 6)
    tiles = picture(figures.image_grid(images, columns=2, title=""))
    np.testing.assert_array_equal(tiles[5:, :6].squeeze(), images[2].mean(0))


def test_reconstructions_stand_below_the_data():
    vae, _ = linear_gaussian(2)
    x = torch.rand(6, 1, 4, 5, dtype=torch.float64)
    tiles = picture(figures.reconstructions(vae, x))
    np.testing.assert_allclose(tiles[:4, :5], x[0, 0].float())
    np.testing.assert_allclose(tiles[4:, :5], vae.reconstruct(x)[0, 0].detach().float(), rtol=1e-6)


def test_the_manifold_is_a_grid_of_quantiles():
    vae, _ = linear_gaussian(2, event_shape=(1, 1, 2))
    vae.decoder.head.loc.linear.weight.data.copy_(torch.eye(2))  # the mean is z itself: an image of two pixels
    vae.decoder.head.loc.linear.bias.data.zero_()
    tiles = picture(figures.manifold(vae, size=5))
    quantiles = norm.ppf([0.1, 0.3, 0.5, 0.7, 0.9])
    np.testing.assert_allclose(tiles[0, ::2], quantiles, atol=1e-6)  # z1 along the first row
    np.testing.assert_allclose(tiles[:, 1], quantiles[::-1], atol=1e-6)  # z2 down the first column


@pytest.mark.parametrize(("latent_dim", "labelled"), [(1, True), (2, False), (7, True)])
def test_the_scatter_shows_every_point_for_any_latent(latent_dim, labelled):
    figure = figures.latent_scatter(torch.randn(50, latent_dim), np.arange(50) % 3 if labelled else None)
    (points,) = figure.axes[0].collections
    assert len(points.get_offsets()) == 50
    assert (figure.axes[0].get_legend() is not None) == labelled


def test_the_scatter_of_more_dimensions_shows_the_principal_plane():
    codes = torch.zeros(100, 5)
    codes[:, 3], codes[:, 1] = torch.linspace(-5, 5, 100), torch.linspace(-1, 1, 100).square()
    (points,) = figures.latent_scatter(codes, None).axes[0].collections
    spread = np.asarray(points.get_offsets()).std(0)
    np.testing.assert_allclose(spread, codes[:, [3, 1]].numpy().std(0), rtol=1e-4)


def test_the_predictive_check_shows_ranks_and_coverage():
    narrow = torch.full((3, 20), 0.5 / 18)
    narrow[:, [0, -1]] = 0.25
    of_ranks, of_coverage = figures.predictive_check(narrow).axes
    np.testing.assert_allclose([bar.get_height() for bar in of_ranks.patches], 20 * narrow[0], rtol=1e-5)
    x, y = of_coverage.lines[-1].get_data()
    np.testing.assert_allclose(x, np.arange(1, 11) / 10)
    np.testing.assert_allclose(y, [*np.arange(1, 10) / 18, 1], rtol=1e-5)
    assert of_coverage.get_title() == "50% intervals hold 27.8%, 90% intervals hold 50.0%"


def test_kl_bars_stand_largest_first_with_their_dimension():
    axes = figures.kl_bars(torch.tensor([0.5, 2.0, 0.0])).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2.0, 0.5, 0.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "0", "2"]
