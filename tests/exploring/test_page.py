"""The page of a latent in a browser, offline: its pictures against PyTorch's, its controls, and its fit to a screen."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.commands import composing
from tests.helpers.contrast import LOW_CONTRAST
from tests.helpers.distributions import without_mean
from tests.helpers.exploring import (
    CASES,
    SLIDERS,
    WIDE,
    Made,
    assert_as_pytorch,
    drawn,
    make,
    shown,
    waits_for_another_z,
    z_of,
)
from vaelab.data import Array
from vaelab.runs.build import build

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("name", CASES)
def test_pictures_equal_those_of_pytorch(name: str, opened: Any, page_of: Callable[[str], Made]) -> None:
    page, (_, vae) = opened(name), page_of(name)
    seen = []
    for i in range(min(3, page.locator("[data-control]").count())):
        slider = page.locator("[data-control]").nth(i)
        for key in ("Home", "End", "ArrowLeft"):
            slider.focus()
            page.keyboard.press(key)
            drawn(page)
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
        ("conv", "ConvNet"),
        ("conv, plane", "41 × 41 points"),
        ("hierarchical", "which has no mean"),
        ("bits", "most probable z"),
    ):
        assert words in opened(name).locator("main").inner_text()


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
    page.evaluate("Math.random = () => 0.5")
    page.locator("[data-random=start]").click()
    assert page.locator("#name").inner_text().startswith("89, label ")  # of 179 examples
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


def test_on_a_narrow_phone_fields_stand_alike(opened: Any) -> None:
    page = opened("bernoulli, plane", viewport={"width": 360, "height": 740})
    first, second = (page.locator(f"#{name}").bounding_box() for name in ("from", "to"))
    assert first["y"] == second["y"]


def test_on_a_phone_held_sideways_pictures_leave_the_plane_free(opened: Any) -> None:
    page = opened("bernoulli, plane", viewport={"width": 740, "height": 360})
    page.locator("#plane").evaluate("e => e.scrollIntoView({ block: 'center' })")
    plane, pictures = (page.locator(name).bounding_box() for name in ("#plane", ".shown"))
    assert min(plane["width"], plane["height"]) > 250
    assert pictures["x"] + pictures["width"] <= plane["x"]
    assert 0 <= pictures["y"] <= pictures["y"] + pictures["height"] <= 360
    assert 0 <= plane["y"] <= plane["y"] + plane["height"] <= 360


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
