"""The page of a latent in a browser, offline: its pictures against PyTorch's, by mouse, keyboard and touch."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.helpers.commands import composing
from tests.helpers.contrast import LOW_CONTRAST
from tests.helpers.distributions import without_mean
from vaelab.data import Array
from vaelab.data.base import ImageData
from vaelab.distributions import mean_or_sample
from vaelab.exploring.page import make_page
from vaelab.runs.build import build
from vaelab.vae import VAE

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

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


@pytest.fixture(scope="module")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """`page_of("conv")`: the page of one of the `CASES`, and its model; made once."""
    folder, known = tmp_path_factory.mktemp("explored"), {}

    def made(name: str) -> Made:
        if name not in known:
            data, module = build(composing("data=digits", "estimator=importance", *CASES[name]))
            known[name] = make(folder / f"{name}.html", module.vae, data)
        return known[name]

    return made


@pytest.fixture
def opened(visit: Any, page_of: Callable[[str], Made]) -> Any:
    """`opened("conv", viewport=...)`: open the page of a case, until it shows an example."""

    def open_page(name: str, **options: Any) -> Any:
        page = visit(page_of(name)[0], "html[data-ready]", **options)
        page.wait_for_function("document.querySelector('#picture').dataset.z")
        return page

    return open_page


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


@pytest.mark.parametrize("name", CASES)
def test_pictures_equal_those_of_pytorch(name: str, opened: Any, page_of: Callable[[str], Made]) -> None:
    page, (_, vae) = opened(name), page_of(name)
    seen = []
    for i in range(min(3, page.locator("[data-control]").count())):
        slider = page.locator("[data-control]").nth(i)
        for key in ("Home", "End", "ArrowLeft"):
            slider.focus()
            page.keyboard.press(key)
            page.wait_for_timeout(60)
            assert_as_pytorch(page, vae)
            seen.append(tuple(z_of(page)))
    assert len(set(seen)) > 3
    assert_as_pytorch(page, vae, "reconstruction")
    if page.locator("#share").count():
        for key in ("Home", "ArrowRight", "End"):
            page.locator("#share").press(key)
            assert_as_pytorch(page, vae, "middle")


def test_the_page_says_how_its_pictures_are_made(opened: Any) -> None:
    for name, words in (
        ("gaussian", "runs in this page"),
        ("conv", "along one dimension at a time"),
        ("conv, plane", "41 × 41 points"),
        ("hierarchical", "which has no mean"),
        ("bits", "most probable z"),
    ):
        assert words in opened(name).locator("main").inner_text()


@pytest.mark.parametrize("name", ["bernoulli, plane", "conv, plane"])
def test_arrow_keys_and_the_pointer_move_z_on_the_plane(name: str, opened: Any, page_of: Callable[[str], Made]) -> None:
    page, (_, vae) = opened(name), page_of(name)
    plane = page.locator("#plane")
    for key, axis, sign in (("ArrowRight", 0, 1), ("Shift+ArrowRight", 0, 1), ("ArrowUp", 1, 1), ("ArrowLeft", 0, -1)):
        before = z_of(page)
        waits_for_another_z(page, lambda key=key: plane.press(key))
        assert (z_of(page)[axis] - before[axis]) * sign > 0
        assert_as_pytorch(page, vae)
    box = plane.bounding_box()
    waits_for_another_z(page, lambda: page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"]))
    low, high = (float(page.locator("[data-control]").first.get_attribute(key)) for key in ("min", "max"))
    near = [low + 0.3 * (high - low), high - 0.4 * (high - low)]
    assert np.abs(np.subtract(z_of(page), near)).max() < 0.02 * (high - low)
    assert_as_pytorch(page, vae)


def test_a_click_chooses_the_nearest_example(opened: Any, page_of: Callable[[str], Made]) -> None:
    page, (_, vae) = opened("bernoulli, plane"), page_of("bernoulli, plane")
    name = page.locator("#name").inner_text()
    box = page.locator("#plane").bounding_box()
    page.mouse.click(box["x"] + 0.6 * box["width"], box["y"] + 0.6 * box["height"])
    page.wait_for_function("name => document.querySelector('#name').textContent !== name", arg=name)
    number = page.locator("#start").input_value()
    assert page.locator("#name").inner_text().startswith(f"{number}, label ")
    page.wait_for_function(
        "number => document.querySelector('#neighbours button').dataset.example === number", arg=number
    )
    assert shown(page, "reconstruction")[0] == z_of(page)
    assert_as_pytorch(page, vae, "reconstruction")


def test_labels_in_the_legend_hide_their_points(opened: Any) -> None:
    page = opened("bernoulli, plane")
    page.locator("#plane[data-drawn]").wait_for()
    picture = "document.querySelector('#plane canvas').toDataURL()"
    before = page.evaluate(picture)
    button = page.locator("#legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(picture) != before


def test_neighbours_are_the_nearest_examples(opened: Any, page_of: Callable[[str], Made]) -> None:
    page = opened("gaussian")
    waits_for_another_z(page, lambda: page.locator("[data-control]").first.press("End"))
    script = "() => { const d = JSON.parse(document.querySelector('#data').textContent); return [d.z, d.latentDim]; }"
    encoded, latent_dim = page.evaluate(script)
    codes = np.frombuffer(base64.b64decode(encoded), np.float32).reshape(-1, latent_dim)
    expected = np.argsort(np.linalg.norm(codes - z_of(page), axis=1))[:10]
    assert page.evaluate("[...document.querySelectorAll('#neighbours button')].map(b => +b.dataset.example)") == [
        *expected
    ]
    page.locator("#neighbours button").nth(3).click()
    assert page.locator("#start").input_value() == str(expected[3])


def test_examples_are_chosen_by_number_strip_and_chance(opened: Any) -> None:
    page = opened("gaussian")
    page.locator("#start").fill("17")
    page.keyboard.press("Enter")
    assert page.locator("#name").inner_text().startswith("17, label ")
    page.locator("#strip button").nth(2).click()
    assert page.locator("#name").inner_text().endswith("label 2")
    chosen = page.locator("#name").inner_text()
    for _ in range(5):
        page.locator("[data-random=start]").click()
    assert page.locator("#name").inner_text() != chosen
    page.locator("#start").fill("99999")
    page.keyboard.press("Enter")
    assert page.locator("#start").input_value() == page.locator("#start").get_attribute("max")


def test_on_sheets_only_their_examples_can_be_chosen(opened: Any) -> None:
    page = opened("conv")
    numbers = page.evaluate("[...document.querySelectorAll('#start option')].map(o => o.value)")
    assert len(numbers) == 10
    for button in page.locator("#neighbours button").all():
        assert button.is_disabled() == (button.get_attribute("data-example") not in numbers)


def test_tab_reaches_every_control_with_a_visible_focus(opened: Any) -> None:
    page = opened("bernoulli, plane")
    script = """() => { const e = document.activeElement;
        return [e.id || e.dataset.control || e.textContent, getComputedStyle(e).outlineStyle]; }"""
    order = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(script)
        order.append(name)
        assert outline != "none", name
        if name == "to":
            break
    places = [order.index(name) for name in ("theme", "plane", "points", "start", "copy", "share", "to")]
    assert places == sorted(places)
    unnamed = "[...document.querySelectorAll('input, select, button, canvas[role]')].filter(e => !e.labels?.length)"
    assert page.evaluate(f"{unnamed}.filter(e => !e.textContent && !e.ariaLabel).length") == 0


@pytest.mark.parametrize("name", ["bernoulli, plane", "conv", "choices"])
def test_on_a_phone_nothing_overflows_and_touch_moves_z(name: str, opened: Any) -> None:
    page = opened(name, viewport={"width": 360, "height": 740}, has_touch=True)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > 360)"
    assert page.evaluate(f"{wide}.map(e => e.outerHTML.slice(0, 60))") == []
    touched = page.locator("#plane" if "plane" in name else "[data-control]").first
    touched.evaluate("e => e.scrollIntoView({ block: 'center' })")
    box, first = touched.bounding_box(), page.locator("[data-control]").first
    at = 0.9 if first.evaluate("e => e.value < (Number(e.min) + Number(e.max)) / 2") else 0.1
    waits_for_another_z(page, lambda: page.touchscreen.tap(box["x"] + at * box["width"], box["y"] + box["height"] / 2))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str, opened: Any) -> None:
    page = opened("bernoulli, plane", color_scheme=scheme)
    assert page.evaluate(LOW_CONTRAST) == []


def test_colours_of_an_image_and_of_its_mean(visit: Any, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 9, 7), np.uint8)
    np.save(tmp_path / "colour.npy", images)
    line = ("data=array", "data.file=colour.npy", f"data_dir={tmp_path}", "decoder=gaussian", *SLIDERS, WIDE)
    data, module = build(composing(*line))
    assert isinstance(data, Array)
    file, vae = make(tmp_path / "colour.html", module.vae, data)
    page = visit(file, "html[data-ready]")
    page.wait_for_function("document.querySelector('#picture').dataset.z")
    assert_as_pytorch(page, vae)
    stored = data.split["test"].images[int(page.locator("#start").input_value())]
    assert np.array_equal(shown(page, "example")[1], np.moveaxis(stored, 0, -1))


def test_a_decoder_without_a_mean_shows_samples(visit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, module = build(composing("data=digits", "decoder=gaussian", *SLIDERS, WIDE))
    without_mean(monkeypatch, module.vae)
    file, _ = make(tmp_path / "samples.html", module.vae, data)
    page = visit(file, "html[data-ready]")
    assert "a sample of p(x|z)" in page.locator(".shown").inner_text()
    before = shown(page, "picture")[1]
    waits_for_another_z(page, lambda: page.locator("[data-control]").first.press("End"))
    assert (shown(page, "picture")[1] != before).any()
