"""Pages of latents for tests in a browser: how they are made, and what they show."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vaelab.data.base import ImageData
from vaelab.distributions import mean_or_sample
from vaelab.exploring.page import make_page
from vaelab.vae import VAE

PLANE, SLIDERS = ("latent_dim=2",), ("latent_dim=4",)
WIDE, CONV = "hidden_features=64", "network=conv"
CASES: dict[str, tuple[str, ...]] = {
    "bernoulli, plane": ("decoder=bernoulli", *PLANE, WIDE),
    "gaussian": ("decoder=gaussian", *SLIDERS, WIDE, "network.activation=gelu"),
    "discretised": ("decoder=discretised_logistic", *SLIDERS, "network=gated"),
    "hierarchical": ("model=hierarchical", "model.upper_dims=2", *PLANE, WIDE),
    "bits": ("encoder=relaxed_bernoulli", "prior=bernoulli", *SLIDERS, WIDE),
    "choices": ("encoder=relaxed_categorical", "prior=categorical", "latent_dim=20", WIDE),
    "conv, plane": (CONV, *PLANE),
    "conv": (CONV, *SLIDERS),
    "conv, choices": (CONV, "encoder=relaxed_categorical", "prior=categorical", "latent_dim=20"),
}
Made = tuple[Path, VAE]


def make(file: Path, vae: VAE, data: ImageData) -> Made:
    """Write the page of a model whose weights are larger than at the start, so that z matters."""
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.mul_(2)
    file.write_text(make_page("a run", vae.eval(), data, "made by a test"), encoding="utf-8")
    return file, vae


def shown(page: Any, canvas: str) -> tuple[list[float], NDArray[np.integer]]:
    """Return z and the pixels `[height, width, 3]` of a canvas."""
    script = """id => {
        const canvas = document.getElementById(id), [width, height] = [canvas.width, canvas.height];
        const copy = Object.assign(document.createElement('canvas'), { width, height });
        const context = copy.getContext('2d', { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, width, height);
        return [canvas.dataset.z ?? '[]', height, width, [...data]];
    }"""
    z, height, width, pixels = page.evaluate(script, canvas)
    return json.loads(z), np.array(pixels).reshape(height, width, 4)[..., :3]


def assert_as_pytorch(page: Any, vae: VAE, canvas: str = "picture") -> None:
    """Assert that a canvas shows the mean of p(x|z) at its z, to a grey level."""
    z, pixels = shown(page, canvas)
    with torch.no_grad():
        expected = mean_or_sample(vae.decode(torch.tensor([z]).float()))[0] / vae.max_pixel
    levels = (expected.clamp(0, 1) * 255).movedim(0, -1).expand(-1, -1, 3).numpy()
    assert np.abs(pixels - levels).max() <= 1
    assert pixels.std() > 2  # something is there


def z_of(page: Any) -> list[float]:
    return json.loads(page.locator("#picture").get_attribute("data-z"))


def waits_for_another_z(page: Any, act: Callable[[], Any]) -> None:
    """Do something, until the picture is at another z."""
    before = page.locator("#picture").get_attribute("data-z")
    act()
    page.wait_for_function("z => document.querySelector('#picture').dataset.z !== z", arg=before)


def drawn(page: Any) -> None:
    """Wait until the page has drawn what it was asked to draw, which takes one frame."""
    page.evaluate("new Promise(done => requestAnimationFrame(done))")
