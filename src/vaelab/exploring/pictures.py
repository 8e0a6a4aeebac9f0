"""Pictures of p(x|z) and of data on the scale of a screen, and many of them as one PNG."""

import base64
import io
import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vaelab.distributions import mean_if_any, mean_or_sample
from vaelab.evaluation.figures import grey_or_rgb, tiled
from vaelab.exploring.program import Program
from vaelab.exploring.recorder import NotTranslatedError, translate
from vaelab.randomness import seed_draws
from vaelab.vae import VAE

WHITE = 255
BATCH = 200
MOST_BYTES = 4 * 2**20  # of a program's weights
Tiles = NDArray[np.uint8]  # [n, height, width, 1 or 3]


class Pictures:
    """Map z to a picture of p(x|z): its mean, or one sample with noise that is always the same if it has no mean.

    Pictures are `[n, height, width, channels]`, from 0 to 255. 1 channel is grey, 3 are RGB, others are averaged to
    grey.
    """

    def __init__(self, vae: VAE) -> None:
        self.vae = vae
        self.are_means = mean_if_any(vae.decode(vae.latent_prior().sample((1,)))) is not None

    def __call__(self, z: Tensor) -> Tensor:
        return torch.cat([self.drawn(each) for each in z.split(BATCH if self.are_means else 1)])

    def drawn(self, z: Tensor) -> Tensor:
        """Return the pictures of a batch, which draw their noise from the same seed as any other."""
        with torch.random.fork_rng(devices=[]):
            seed_draws("cpu", "figures", 0)
            return on_screen(mean_or_sample(self.vae.decode(z)) / self.vae.max_pixel)

    def tiles(self, z: Tensor) -> Tiles:
        """Return the pictures as the bytes of an image."""
        return as_bytes(self(z))

    def program(self, z: Tensor) -> tuple[Program | None, str]:
        """Return a program that gives these pictures to half a grey level, or None and why there is no such program.

        Args:
            z: points at which to compare the two, `[n, latent_dim]`.
        """
        try:
            exact = translate(self, z[:1])
        except NotTranslatedError as error:
            network = type(self.vae.decoder.network).__name__
            return (
                None,
                f"its network, {network}, or its head needs the operation “{error}” of PyTorch, which the page lacks",
            )
        expected = self(z).flatten(1).numpy()
        for program in (exact.halved(), exact):
            if program.num_bytes > MOST_BYTES:
                continue
            with np.errstate(all="ignore"):
                found = np.stack([program(each) for each in z.double().numpy()])
            if np.all(np.abs(found.clip(0, WHITE) - expected.clip(0, WHITE)) < 0.5):
                return program, ""
        large = exact.halved().num_bytes
        return (
            None,
            f"its weights take {large / 1e6:.0f} MB" if large > MOST_BYTES else "a page cannot repeat its numbers",
        )


def on_screen(images: Tensor) -> Tensor:
    """Return images `[n, channels, height, width]` between 0 and 1 on the scale of the screen, with channels last."""
    return grey_or_rgb(images).movedim(1, -1) * WHITE


def as_bytes(pictures: Tensor) -> Tiles:
    """Return pictures rounded to whole grey levels."""
    return pictures.round().clamp(0, WHITE).nan_to_num().byte().numpy()


def sprite(tiles: Tiles) -> dict[str, int | str]:
    """Return tiles as one PNG, row by row: its data URI, and how many columns it has."""
    n, height, width, channels = tiles.shape
    columns = math.ceil(math.sqrt(n * height / width))
    whole = tiled(torch.from_numpy(tiles).float().movedim(-1, 1), columns).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(whole[..., 0] if channels == 1 else whole).save(out, "PNG", optimize=True)
    return {"uri": f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}", "columns": columns}
