"""Make the page: the program or the sheets, the examples and the texts, in one HTML file."""

import base64
import secrets
from pathlib import Path
from typing import Any

import torch

from vaelab.data import ImageData
from vaelab.exploring.latent import Latent, contours, gather
from vaelab.exploring.pictures import Pictures, sprite
from vaelab.exploring.program import ELEMENTWISE, REDUCTIONS
from vaelab.exploring.sheets import make_sheets, various
from vaelab.reporting.template import environment
from vaelab.vae import VAE

CHECKED = 16  # examples, and as many samples from the prior, at which the page's pictures are compared with PyTorch's
STRIP = 10  # examples in the strip
ASSETS = Path(__file__).parent / "assets"


@torch.no_grad()
def make_page(name: str, vae: VAE, data: ImageData, subtitle: str) -> str:
    """Return the page of a trained model, with everything that comes from its run folder escaped.

    Args:
        name: the run's name.
        vae: the model.
        data: its data, whose first test examples are shown.
        subtitle: what else is known of the run.

    Raises:
        ConfigError: z is discrete, but made neither of bits nor of choices.
    """
    with vae.mode(training=False), vae.fixed_prior():
        pictures = Pictures(vae)
        latent = gather(vae, data, pictures)
        program, refusal = pictures.program(torch.cat([latent.z[:CHECKED], latent.prior[:CHECKED]]))
        plane = plane_of(vae, latent) if latent.is_plane else None
        low, high = (plane["low"], plane["high"]) if plane else (0, 0)
        sheets = None if program else make_sheets(pictures, latent, low, high)
    bases = sheets.bases if sheets else list(range(len(latent.z)))
    controls = sheets.controls if sheets else latent.controls
    height, width, channels = latent.tiles.shape[1:]
    content = {
        "shape": [height, width, channels],
        "latentDim": vae.latent_dim,
        "controls": [vars(control) for control in controls],
        "z": base64.b64encode(latent.z.float().numpy().tobytes()).decode(),
        "labels": latent.labels,
        "examples": sprite(latent.tiles),
        "bases": bases,
        "strip": [i for i in various(latent, STRIP) if i in bases],
        "plane": plane,
        "program": program.written() if program else None,
        "sheets": sheets.written() if sheets else None,
    }
    return environment(ASSETS).get_template("explore.html.jinja").render(
        name=name,
        subtitle=subtitle,
        latent=latent,
        controls=controls,
        sheets=sheets,
        refusal=refusal,
        shows="mean" if pictures.are_means else "a sample",
        content=content,
        size=(width, height),
        operations={name: code for name, (_, code) in ELEMENTWISE.items()},
        reductions={name: code for name, (_, code) in REDUCTIONS.items()},
        nonce=secrets.token_urlsafe(),
    )


def plane_of(vae: VAE, latent: Latent) -> dict[str, Any]:
    """Return the square of the plane that is shown, and the contours of the prior in it."""
    low, high = min(c.low for c in latent.controls), max(c.high for c in latent.controls)
    for control in latent.controls:
        control.low, control.high = low, high
    return {"low": low, "high": high, "contours": contours(vae.latent_prior(), latent.prior, low, high)}
