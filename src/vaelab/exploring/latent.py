"""What the page knows of a latent: where the test examples are in it, and how each of its dimensions may be moved."""

import math
from dataclasses import dataclass

import torch
import torch.distributions as td
from torch import Tensor
from torch.distributions import constraints

from vaelab.data import ImageData
from vaelab.data.base import BLOCK_SIZE
from vaelab.data.batches import Blocks
from vaelab.distributions import domain, mean_if_any, mean_or_sample
from vaelab.distributions.discrete_latents import InGroups
from vaelab.errors import ConfigError, RunFolderError
from vaelab.evaluation.latent_usage import ACTIVE
from vaelab.exploring.pictures import Pictures, Tiles, as_bytes, on_screen
from vaelab.objectives import kl_per_dimension
from vaelab.randomness import seed_draws
from vaelab.vae import VAE

MOST_EXAMPLES, MOST_PIXELS, MOST_NUMBERS = 2000, 1_600_000, 200_000  # of all examples together
TRIED = 16  # examples in which a dimension is moved, to see what it does
SEEN = 0.1  # grey levels by which an active dimension changes pictures, on average
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
        active: whether the page shows it at once: it does something, or no dimension does.
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
    def is_discrete(self) -> bool:
        """Return whether z is discrete."""
        return self.controls[0].whole


def gather(vae: VAE, data: ImageData, pictures: Pictures) -> Latent:
    """Encode the first test examples, and look at how each dimension of z is used.

    Raises:
        ConfigError: z is discrete, but made neither of bits nor of choices.
        RunFolderError: q(z|x) or the prior is not finite.
    """
    split = data.split["test"]
    limits = (MOST_EXAMPLES, MOST_PIXELS // math.prod(data.event_shape), MOST_NUMBERS // vae.latent_dim)
    blocks = Blocks(min(len(split), max(1, min(limits))), BLOCK_SIZE)
    prior = vae.latent_prior()
    posteriors = [vae.encode(data.draw_block("test", block)) for block in blocks]
    seed_draws("cpu", "figures", 0)
    points = torch.cat([mean_or_sample(q) for q in posteriors])
    drawn = prior.sample((DRAWS,))
    if not (points.isfinite().all() and drawn.isfinite().all()):
        raise RunFolderError("q(z|x) or p(z) of these weights is not finite: type checkpoint=best, or train again")
    size = group_size(posteriors[0]) if vae.encoder.head.discrete else None
    z = points if size is None else most_probable(points, size)
    have_means = mean_if_any(posteriors[0]) is not None
    known = [kl for kl in (kl_per_dimension(q, prior) for q in posteriors) if kl is not None]
    if known:
        use = in_groups(torch.cat(known).mean(0), size)
        active = (in_groups(points.var(0, correction=0), size) if have_means else use) > ACTIVE
    else:
        use = effects(pictures, z[:TRIED], size or 1)
        active = use > SEEN
    images = torch.from_numpy(split.images[: len(z)]) / (data.num_levels - 1)
    return Latent(
        z=z,
        labels=None if split.labels is None else split.labels[: len(z)].tolist(),
        tiles=as_bytes(on_screen(images)),
        total=len(split),
        controls=controls(use, active if active.any() else ~active, size, z, drawn),
        have_means=have_means,
        have_kl=bool(known),
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


def in_groups(values: Tensor, size: int | None) -> Tensor:
    """Return the sums of values of dimensions over each group."""
    return values.unflatten(0, (-1, size or 1)).sum(1)


def most_probable(means: Tensor, size: int) -> Tensor:
    """Return the most probable z, given the means of bits, or of one-hot vectors of some size."""
    if size == 1:
        return means.round()
    groups = means.unflatten(-1, (-1, size))
    return torch.zeros_like(groups).scatter(-1, groups.argmax(-1, keepdim=True), 1).flatten(-2)


def controls(use: Tensor, active: Tensor, size: int | None, z: Tensor, drawn: Tensor) -> list[Control]:
    """Return a control for each entry of `use`, the most used one first.

    Args:
        use, active: as in `Control`.
        size: as `group_size`, or None: sliders reach each z, and from the 0.1 % to the 99.9 % quantile of the prior.
        z, drawn: as `Latent.z` and `Latent.prior`.
    """
    width = size or 1
    if size is None:
        reached = 4 * torch.cat([drawn.quantile(torch.tensor([0.001, 0.999]), 0), z])
        lows, highs = ((each / 4).tolist() for each in (reached.amin(0).floor(), reached.amax(0).ceil()))
    else:
        lows, highs = [0] * len(use), [max(1, size - 1)] * len(use)
    positions = POSITIONS if size is None else max(2, size)
    made = [
        Control(i * width, width, lows[i], highs[i], size is not None, use[i].item(), bool(active[i]), positions)
        for i in range(len(use))
    ]
    return sorted(made, key=lambda control: -control.use)


def effects(pictures: Pictures, z: Tensor, size: int) -> Tensor:
    """Return by how many grey levels a picture changes, on average, if each group gets another example's values."""
    still, found = pictures(z), []
    for first in range(0, z.shape[1], size):
        moved = z.clone()
        moved[:, first : first + size] = z[:, first : first + size].roll(1, 0)
        found.append((pictures(moved) - still).abs().mean())
    return torch.stack(found)
