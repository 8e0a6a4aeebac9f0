"""Matplotlib figures of a trained VAE: reconstructions, samples, and the latent."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from vaelab.distributions import mean_or_sample
from vaelab.evaluation.predictive import COVERAGES, NUM_RANKS, Histograms, coverage
from vaelab.priors import Prior
from vaelab.vae import VAE


def image_grid(images: Float[Tensor, "n channels height width"], columns: int, title: str) -> Figure:
    """Draw the tiles of `tiled`, with a title."""
    return image_grids({title: images}, columns)


def image_grids(images: Mapping[str, Float[Tensor, "n channels height width"]], columns: int) -> Figure:
    """Draw the tiles of several sets of images side by side, each below its title."""
    tiles = [tiled(each, columns) for each in images.values()]
    height, width = max(len(each) for each in tiles), tiles[0].shape[1]
    size = (columns * 0.6 * len(tiles), columns * 0.6 * height / width + 0.3)
    figure = Figure(figsize=size, layout="constrained")
    for axes, title, each in zip(figure.subplots(1, len(tiles), squeeze=False)[0], images, tiles, strict=True):
        axes.imshow(each, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    return figure


def tiled(images: Float[Tensor, "n channels height width"], columns: int) -> NDArray[np.floating]:
    """Tile images row by row, on a scale from 0 to 1: 1 channel is grey, 3 are RGB, others are averaged to grey."""
    images = grey_or_rgb(images)
    n, channels, height, width = images.shape
    rows = -(-n // columns)
    padded = torch.zeros(rows * columns, channels, height, width)
    padded[:n] = images.cpu()
    tiles = padded.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    return tiles.reshape(rows * height, columns * width, channels).numpy()


def grey_or_rgb(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n shown height width"]:
    """Return images of 1 or 3 channels as they are, and average the channels of others to 1."""
    return images if images.shape[1] in (1, 3) else images.mean(1, keepdim=True)


@torch.no_grad()
def reconstructions(vae: VAE, x: Float[Tensor, "n channels height width"]) -> Figure:
    """Draw each example above its reconstruction by `VAE.reconstruct`."""
    pairs = torch.cat([x, vae.reconstruct(x)]) / vae.max_pixel
    return image_grid(pairs, len(x), "data (above) and reconstruction (below)")


@torch.no_grad()
def samples(vae: VAE, rows: int = 8, columns: int = 12) -> Figure:
    """Draw z from the prior several times. Show the mean of each p(x|z), or a sample if it has no mean."""
    images = mean_or_sample(vae.decode(vae.latent_prior().sample((rows * columns,))))
    return image_grid(images / vae.max_pixel, columns, "z from the prior: means of p(x|z), or samples if it has none")


@torch.no_grad()
def samples_of_priors(vae: VAE, priors: Mapping[str, Prior], rows: int = 8, columns: int = 8) -> Figure:
    """Draw `samples` with z from each of several priors, side by side below their names."""
    drawn = {name: vae.decode(prior(vae.encoder).sample((rows * columns,))) for name, prior in priors.items()}
    return image_grids({name: mean_or_sample(p) / vae.max_pixel for name, p in drawn.items()}, columns)


@torch.no_grad()
def manifold(vae: VAE, size: int = 20) -> Figure:
    """Draw a two-dimensional latent as a grid of images: appendix A of Kingma & Welling (2014), figure 4.

    The inverse cdf of the Gaussian maps a regular grid on the unit square to z, so that all cells have the same
    probability under a standard normal prior.
    """
    quantiles = torch.from_numpy(norm.ppf((np.arange(size) + 0.5) / size))
    z = torch.cartesian_prod(-quantiles, quantiles).flip(-1).to(next(vae.parameters()))
    images = mean_or_sample(vae.decode(z)) / vae.max_pixel
    return image_grid(images, size, "the latent plane, at quantiles of a standard normal")


def latent_scatter(codes: Float[Tensor, "n latent_dim"], labels: NDArray[np.integer] | None) -> Figure:
    """Draw the mean (or a sample) of each q(z|x), coloured by label; more than 2 dimensions are projected by PCA."""
    points, names = codes.cpu().numpy(), ["z1", "z2"]
    if points.shape[1] > 2:
        centred = points - points.mean(0)
        points = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
        names = ["first principal component", "second principal component"]
    elif points.shape[1] == 1:
        points, names = np.column_stack([points, np.arange(len(points))]), ["z1", "example"]
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    drawn = axes.scatter(*points.T, c=labels, s=6, cmap=None if labels is None else "tab10", alpha=0.8, linewidths=0)
    if labels is not None:
        elements = drawn.legend_elements(num=list(np.unique(labels)))
        axes.legend(*elements, title="label", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(
        xlabel=names[0], ylabel=names[1], title="the mean of each q(z|x), validation split; a sample if it has none"
    )
    return figure


def kl_bars(kl: Float[Tensor, " latent_dim"]) -> Figure:
    """Draw the KL(q(z_j|x) || p(z_j)) of each latent dimension j in nats, the largest first."""
    order = kl.argsort(descending=True).cpu()
    figure = Figure(figsize=(max(4, 0.3 * len(kl)), 3), layout="constrained")
    axes = figure.subplots()
    axes.bar([str(i) for i in order.tolist()], kl.cpu()[order].numpy())
    axes.set(xlabel="latent dimension", ylabel="KL (nats)", title=f"KL per dimension, {kl.sum():.2f} nats in all")
    return figure


def predictive_check(histograms: Histograms) -> Figure:
    """Draw the mean histogram of ranks, and the coverage of predictive intervals, with two standard errors each."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    of_ranks, of_coverage = figure.subplots(1, 2)
    draw_ranks(of_ranks, histograms)
    of_ranks.set(xlabel="rank of a pixel in its p(x|z)", ylabel="density")
    of_ranks.set_title("dashed: if p(x|z) is right", fontsize=8)
    probabilities = np.arange(2, NUM_RANKS + 1, 2) / NUM_RANKS
    of_coverage.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    shares = torch.stack([coverage(histograms, probability) for probability in probabilities], 1)
    of_coverage.errorbar(probabilities, *_mean_and_error(shares), marker=".")
    of_coverage.set(xlabel="predictive interval", ylabel="pixels inside", xlim=(0, 1), ylim=(0, 1))
    told = [f"{level:.0%} intervals hold {coverage(histograms, level).mean():.1%}" for level in COVERAGES.values()]
    of_coverage.set_title(", ".join(told), fontsize=8)
    return figure


def draw_ranks(axes: Axes, histograms: Histograms) -> None:
    """Draw the mean histogram of ranks with two standard errors, and a dashed line where p(x|z) is right."""
    middles = (np.arange(NUM_RANKS) + 0.5) / NUM_RANKS
    heights, errors = _mean_and_error(histograms * NUM_RANKS)
    axes.bar(middles, heights, 1 / NUM_RANKS, yerr=errors, edgecolor="white", linewidth=0.5)
    axes.axhline(1, color="black", linestyle="--", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, max(2.5, heights.max() * 1.1)))


def _mean_and_error(shares: Float[Tensor, "examples n"]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the means over examples, and two standard errors of them, which are 0 for a single example."""
    error = 2 * shares.std(0, correction=min(1, len(shares) - 1)) / len(shares) ** 0.5
    return shares.mean(0).numpy(), error.numpy()
