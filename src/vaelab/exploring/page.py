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
        sheets = None if program else make_sheets(pictures, latent)
    controls = sheets.controls if sheets else latent.controls
    bases = sheets.bases if sheets else list(range(len(latent.z)))
    content = {
        "shape": latent.tiles.shape[1:],
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
    told = {"name": name, "subtitle": subtitle, "refusal": refusal, "nonce": secrets.token_urlsafe()}
    told |= {"operations": ELEMENTWISE, "reductions": REDUCTIONS, "are_means": pictures.are_means}
    template = environment(ASSETS).get_template("explore.html.jinja")
    return template.render(told, latent=latent, controls=controls, sheets=sheets, content=content)


def plane_of(vae: VAE, latent: Latent) -> dict[str, Any]:
    """Return the shown square of the plane, and the prior's contours in it. Sliders get its range; z1 comes first."""
    low, high = min(c.low for c in latent.controls), max(c.high for c in latent.controls)
    for control in latent.controls:
        control.low, control.high = low, high
    latent.controls.sort(key=lambda control: control.first)
    return {"low": low, "high": high, "contours": contours(vae.latent_prior(), latent.prior, low, high)}
