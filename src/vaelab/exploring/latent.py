"""What the page knows of a latent: where the test examples are in it, and how each of its dimensions may be moved."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributions as td
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import constraints

from vaelab.data import ImageData
from vaelab.data.base import Tested
from vaelab.distributions import domain, mean_or_sample
from vaelab.distributions.discrete_latents import InGroups
from vaelab.errors import ConfigError
from vaelab.evaluation.latent_usage import ACTIVE
from vaelab.exploring.pictures import Pictures, Tiles, as_bytes, has_mean, on_screen
from vaelab.objectives import kl_per_dimension
from vaelab.randomness import seed_draws
from vaelab.vae import VAE

MOST_EXAMPLES, MOST_PIXELS, MOST_NUMBERS = 2000, 1_600_000, 200_000  # of all examples together
TRIED = 16  # examples in which a dimension is moved, to see what it does
SEEN = 0.1  # grey levels: the mean change of a picture below which a dimension counts as inactive
MASSES = (0.5, 0.9, 0.99)  # of the prior, within its contours
DRAWS = 4000  # from the prior
POSITIONS = 101  # of a slider over real numbers


@dataclass
class Control:
    """How to move one dimension of z, or one group of dimensions that is a choice among its members.

    Args:
        first, size: the dimensions.
        low, high: the range of a real number or of a bit; the first and the last member of a group.
        whole: whether it has whole numbers only.
        use: the KL of the dimension in nats, or, where it has none, the grey levels by which it changes pictures.
        active: whether it does anything.
        positions: how many values a slider has.
    """

    first: int
    size: int
    low: float
    high: float
    whole: bool
    use: float
    active: bool
    positions: int

    @property
    def name(self) -> str:
        """Return the name of the dimensions, counted from 1."""
        return f"z{self.first + 1}" + (f"–{self.first + self.size}" if self.size > 1 else "")


@dataclass
class Latent:
    """The first test examples in the latent.

    Args:
        z: a point for each example, `[n, latent_dim]`: the mean of its q(z|x), a sample where that has no mean, or the
            most probable values of a discrete z.
        labels: their labels, if there are any.
        tiles: their stored images.
        total: how many examples the test split has.
        controls: how z can be moved, the most used dimension first.
        have_means, have_kl: whether q(z|x) has a mean, and each dimension a KL.
        prior: samples from the prior.
        is_plane: whether z has two dimensions of real numbers.
    """

    z: Tensor
    labels: list[int] | None
    tiles: Tiles
    total: int
    controls: list[Control]
    have_means: bool
    have_kl: bool
    prior: Tensor
    is_plane: bool

    @property
    def active(self) -> list[Control]:
        """Return the controls of active dimensions, or all if none is."""
        return [control for control in self.controls if control.active] or self.controls

    @property
    def is_discrete(self) -> bool:
        """Return whether z is discrete."""
        return self.controls[0].whole


def gather(vae: VAE, data: ImageData, pictures: Pictures) -> Latent:
    """Encode the first test examples, and look at how each dimension of z is used.

    Raises:
        ConfigError: z is discrete, but made neither of bits nor of choices.
    """
    split = data.split["test"]
    limits = (MOST_EXAMPLES, MOST_PIXELS // math.prod(data.event_shape), MOST_NUMBERS // vae.latent_dim)
    data.tested = Tested("test", limit=max(1, min(limits)))
    posteriors = [vae.encode(data.draw_block("test", block)) for block in data.tested_blocks()]
    seed_draws("cpu", "figures", 0)
    z = torch.cat([mean_or_sample(q) for q in posteriors])
    size = group_size(posteriors[0]) if vae.encoder.head.discrete else None
    if size is not None:
        groups = z.unflatten(-1, (-1, size))
        z = groups.round() if size == 1 else torch.zeros_like(groups).scatter(-1, groups.argmax(-1, keepdim=True), 1)
        z = z.flatten(-2)
    prior = vae.latent_prior()
    kl = [kl_per_dimension(q, prior) for q in posteriors]
    known = [each for each in kl if each is not None]
    images = torch.from_numpy(split.images[: len(z)]) / (data.num_levels - 1)
    drawn = prior.sample((DRAWS,))
    have_means = has_mean(posteriors[0])
    use = torch.cat(known).mean(0) if len(known) == len(kl) else None
    return Latent(
        z=z,
        labels=None if split.labels is None else split.labels[: len(z)].tolist(),
        tiles=as_bytes(on_screen(images)),
        total=len(split),
        controls=controls(pictures, z, drawn, size, use, have_means),
        have_means=have_means,
        have_kl=use is not None,
        prior=drawn,
        is_plane=vae.latent_dim == 2 and size is None,
    )


def group_size(q: td.Distribution) -> int:
    """Return how many dimensions of a discrete z are one choice: 1 for bits."""
    support = domain(q)
    if isinstance(support, InGroups):
        return support.size
    if support is not constraints.boolean:
        raise ConfigError(
            f"explore expects a z of real numbers, bits or one-hot vectors, found {support}: it cannot show this latent"
        )
    return 1


def controls(
    pictures: Pictures, z: Tensor, drawn: Tensor, size: int | None, kl: Tensor | None, have_means: bool
) -> list[Control]:
    """Return the controls of z, the most used one first; see `Control` and `Latent`."""
    found = []
    reach = torch.cat([drawn.quantile(torch.tensor([0.001, 0.999]), 0), z])
    for first in range(0, z.shape[1], size or 1):
        dims = slice(first, first + (size or 1))
        if kl is None:
            use = effect(pictures, z[:TRIED], dims)
            active = use > SEEN
        else:
            use = kl[dims].sum().item()
            active = z[:, dims].var(0, correction=0).sum().item() > ACTIVE if have_means else use > ACTIVE
        if size is None:
            low, high = (
                math.floor(reach[:, first].min().item() * 4) / 4,
                math.ceil(reach[:, first].max().item() * 4) / 4,
            )
        else:
            low, high = 0, max(1, size - 1)
        positions = POSITIONS if size is None else int(high) + 1
        found.append(Control(first, size or 1, low, high, size is not None, use, active, positions))
    return sorted(found, key=lambda control: -control.use)


def effect(pictures: Pictures, z: Tensor, dims: slice) -> float:
    """Return by how many grey levels a picture changes, on average, if dimensions get another example's values."""
    moved = z.clone()
    moved[:, dims] = z[:, dims].roll(1, 0)
    return (pictures(moved) - pictures(z)).abs().mean().item()


def contours(prior: td.Distribution, drawn: Tensor, low: float, high: float) -> list[list[list[list[float]]]]:
    """Return, for each of `MASSES`, the lines around the densest region of a plane that has this mass of the prior."""
    axis = torch.linspace(low, high, 81)
    density = prior.log_prob(torch.cartesian_prod(axis, axis)).view(81, 81).T.numpy()
    levels = np.quantile(prior.log_prob(drawn).numpy(), [1 - mass for mass in MASSES])
    order = np.argsort(levels)
    drawn_lines = Figure().subplots().contour(axis, axis, density, levels=levels[order])
    lines: list[list[NDArray[np.floating]]] = [drawn_lines.allsegs[i] for i in np.argsort(order)]
    return [[line.round(2).tolist() for line in of_mass] for of_mass in lines]
