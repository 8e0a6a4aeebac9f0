"""Make the page: the program or the sheets, the examples and the texts, in one HTML file."""

import base64
import secrets
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaelab.data import ImageData
from vaelab.exploring.contours import contours
from vaelab.exploring.latent import Latent, gather
from vaelab.exploring.pictures import Pictures, sprite
from vaelab.exploring.program import ELEMENTWISE, REDUCTIONS, Program
from vaelab.exploring.sheets import Sheets, make_sheets, various
from vaelab.reporting.template import environment
from vaelab.vae import VAE

CHECKED = 16  # examples, samples from the prior, and corners, where the page's pictures are compared with PyTorch's
STRIP = 10  # examples in the strip
MOVING = ("first", "size", "low", "high", "whole", "positions")  # what `explore.js` reads of a control
NOISE = {"binary": "binarised", "unit": "dequantised"}  # how stored images become the pixels that the model sees
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
    with torch.random.fork_rng(devices=[]), vae.mode(training=False), vae.fixed_prior():
        pictures = Pictures(vae)
        latent = gather(vae, data, pictures)
        plane = plane_of(vae, latent) if latent.is_plane else None
        checked = torch.cat([latent.z[:CHECKED], latent.prior[:CHECKED], corners(latent)])
        program, refusal = pictures.program(checked)
        sheets = None if program else make_sheets(pictures, latent)
    return (
        environment(ASSETS)
        .get_template("explore.html.jinja")
        .render(
            {"name": name, "subtitle": subtitle, "refusal": refusal, "nonce": secrets.token_urlsafe()},
            operations=ELEMENTWISE,
            reductions=REDUCTIONS,
            are_means=pictures.are_means,
            noise=None if data.is_binary else NOISE.get(data.pixels or ""),
            latent=latent,
            controls=sheets.controls if sheets else latent.controls,
            sheets=sheets,
            content=content_of(latent, plane, program, sheets),
        )
    )


def content_of(
    latent: Latent, plane: dict[str, Any] | None, program: Program | None, sheets: Sheets | None
) -> dict[str, Any]:
    """Return what `explore.js` reads, as plain data. Either the program or the sheets give the pictures."""
    bases = sheets.bases if sheets else list(range(len(latent.z)))
    controls = sheets.controls if sheets else latent.controls
    return {
        "shape": latent.tiles.shape[1:],
        "latentDim": latent.z.shape[1],
        "controls": [{key: getattr(control, key) for key in MOVING} for control in controls],
        "z": base64.b64encode(latent.z.float().numpy().tobytes()).decode(),
        "labels": latent.labels,
        "examples": sprite(latent.tiles),
        "bases": bases,
        "strip": [i for i in various(latent, STRIP) if i in bases],
        "plane": plane,
        "program": program.written() if program else None,
        "sheets": sheets.written() if sheets else None,
    }


def corners(latent: Latent) -> Tensor:
    """Return z of real numbers where each slider is at an end: the 4 first dimensions in all ways, others as these."""
    if latent.is_discrete:
        return latent.z[:0]
    ends = torch.tensor([(c.low, c.high) for c in sorted(latent.controls, key=lambda control: control.first)])
    high = torch.arange(CHECKED)[:, None] >> torch.arange(len(ends)) % 4 & 1
    return torch.where(high == 1, ends[:, 1], ends[:, 0])


def plane_of(vae: VAE, latent: Latent) -> dict[str, Any]:
    """Give both sliders one range, and put z1 first. Return that range and the prior's contours, as plain data.

    The plane is the square that this range spans.
    """
    low, high = min(c.low for c in latent.controls), max(c.high for c in latent.controls)
    for control in latent.controls:
        control.low, control.high = low, high
    latent.controls.sort(key=lambda control: control.first)
    return {"low": low, "high": high, "contours": contours(vae.latent_prior(), latent.prior, high - low)}
