"""Pictures that are computed before, for a decoder that a page cannot run."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vaelab.exploring.latent import Control, Latent
from vaelab.exploring.pictures import Pictures, sprite

MOST_PIXELS = 3_000_000  # of all pictures together
MOST_POINTS = 41  # along each axis of a plane
POSITIONS = 15  # along each dimension of real numbers
FRAMES = 8  # steps from one example to another
LEAST_POSITIONS = 5
MOST_BASES, ENOUGH_BASES, MOST_CONTROLS = 10, 6, 24


@dataclass
class Sheets:
    """Pictures that were computed before, in one large picture, and how to find each.

    The order of the pictures on a plane:

    1. a grid of `points` x `points` pictures;
    2. the reconstruction of each example.

    The order of the pictures with more dimensions, where `bases` are the examples to start from:

    1. for each base, its reconstruction, then a picture for each position of each control;
    2. for each two bases, the pictures on the line between them, without its ends.
    """

    controls: list[Control]
    bases: list[int]
    points: int
    picture: dict[str, int | str]

    def written(self) -> dict[str, Any]:
        """Return the sheets as plain data."""
        return {"points": self.points, "frames": FRAMES, **self.picture}


def on_sheet(control: Control, positions: int) -> Control:
    """Return the control with at most so many positions."""
    return replace(control, positions=min(control.positions, positions) if not control.whole else control.positions)


def moved(z: Tensor, control: Control) -> Tensor:
    """Return z with the control at each of its positions, `[positions, latent_dim]`."""
    values = torch.linspace(control.low, control.high, control.positions)
    rows = z.repeat(len(values), 1)
    if control.size == 1:
        rows[:, control.first] = values
    else:
        rows[:, control.first : control.first + control.size] = torch.eye(control.size)
    return rows


def make_sheets(pictures: Pictures, latent: Latent) -> Sheets:
    """Compute as many pictures as a page has room for."""
    room = MOST_PIXELS // math.prod(latent.tiles.shape[1:])
    if latent.is_plane:
        points = min(MOST_POINTS, math.isqrt(room // 2))
        axis = torch.linspace(latent.controls[0].low, latent.controls[0].high, points)
        rows = torch.cartesian_prod(axis.flip(0), axis).flip(-1)
        picture = sprite(pictures.tiles(torch.cat([rows, latent.z])))
        return Sheets(
            [on_sheet(control, points) for control in latent.controls], list(range(len(latent.z))), points, picture
        )
    between = 0 if latent.is_discrete else FRAMES - 1
    controls, count = layout([control for control in latent.controls if control.active], between, room)
    bases = various(latent, count)
    rows = [torch.cat([z[None], *(moved(z, control) for control in controls)]) for z in latent.z[bases]]
    if between:
        t = torch.linspace(0, 1, FRAMES + 1)[1:-1, None]
        ends = [(a, b) for i, a in enumerate(bases) for b in bases[i + 1 :]]
        rows += [latent.z[a] + t * (latent.z[b] - latent.z[a]) for a, b in ends]
    return Sheets(controls, bases, 0, sprite(pictures.tiles(torch.cat(rows))))


def layout(controls: list[Control], between: int, room: int) -> tuple[list[Control], int]:
    """Return the controls of each block, and the number of blocks, where `room` is the most pictures of all.

    Give up positions, then the least used controls, before examples, until `ENOUGH_BASES` fit.

    Args:
        controls: the active ones.
        between: how many pictures there are between two examples.
        room: the most pictures.
    """

    def fitting(controls: list[Control]) -> int:
        block = 1 + sum(control.positions for control in controls)
        counts = range(2, MOST_BASES + 1)
        return max([n for n in counts if n * block + n * (n - 1) // 2 * between <= room], default=1)

    chosen = controls[:MOST_CONTROLS]
    for positions in range(POSITIONS, LEAST_POSITIONS - 1, -1):
        chosen = [on_sheet(control, positions) for control in controls[:MOST_CONTROLS]]
        if fitting(chosen) >= ENOUGH_BASES:
            break
    while len(chosen) > 1 and fitting(chosen) < ENOUGH_BASES:
        chosen.pop()
    return chosen, fitting(chosen)


def various(latent: Latent, count: int) -> list[int]:
    """Return examples that differ: the first one of each label, then others, in order."""
    labels = latent.labels or []
    firsts = [labels.index(label) for label in sorted(set(labels))]
    return list(dict.fromkeys([*firsts, *range(len(latent.z))]))[:count]
