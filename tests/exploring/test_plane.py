"""The latent plane of a page in a browser: what moves z on it, and what a click chooses."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.helpers.exploring import Made, assert_as_pytorch, drawn, shown, waits_for_another_z, z_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


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


def spot(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where the mouse is at these shares of the plane's width and height."""
    box = page.locator("#plane").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def neighbour(page: Any) -> str:
    drawn(page)
    return page.locator("#neighbours button").first.get_attribute("data-example")


def test_a_click_keeps_z_and_chooses_the_nearest_example(opened: Any, page_of: Callable[[str], Made]) -> None:
    page, (_, vae) = opened("bernoulli, plane"), page_of("bernoulli, plane")
    start = z_of(page)
    page.mouse.move(*spot(page, 0.2, 0.3))
    drawn(page)
    assert z_of(page) != start
    page.mouse.move(*spot(page, 0.5, -0.1))
    drawn(page)
    assert z_of(page) == start  # which the pointer only left for a while
    page.mouse.click(*spot(page, 0.6, 0.6))
    drawn(page)
    clicked, number = z_of(page), page.locator("#start").input_value()
    assert clicked != start
    assert number == neighbour(page)
    assert page.locator("#name").inner_text().startswith(f"{number}, label ")
    assert_as_pytorch(page, vae, "reconstruction")
    page.mouse.move(*spot(page, 0.2, 0.3))
    page.mouse.move(*spot(page, 0.5, -0.1))
    drawn(page)
    assert z_of(page) == clicked
    page.locator("#back").click()
    drawn(page)
    assert z_of(page) == shown(page, "reconstruction")[0]


def test_a_drag_keeps_z_and_chooses_no_example(opened: Any) -> None:
    page = opened("bernoulli, plane")
    number = page.locator("#start").input_value()
    page.mouse.move(*spot(page, 0.8, 0.8))
    page.mouse.down()
    page.mouse.move(*spot(page, 0.3, 0.4), steps=3)
    page.mouse.up()
    drawn(page)
    dragged = z_of(page)
    page.mouse.move(*spot(page, 0.5, -0.1))
    drawn(page)
    assert z_of(page) == dragged
    assert neighbour(page) != number
    assert page.locator("#start").input_value() == number


def test_a_click_chooses_no_hidden_example(opened: Any) -> None:
    page = opened("bernoulli, plane")
    page.mouse.click(*spot(page, 0.6, 0.6))
    near = page.locator("#name").inner_text()
    label = near.split("label ")[1]
    page.locator("#legend button", has_text=label).click()
    page.mouse.click(*spot(page, 0.6, 0.6))
    assert page.locator("#name").inner_text().split("label ")[1] != label
    page.locator("#legend button", has_text=label).click()
    page.locator("#plane").press("Enter")
    assert page.locator("#name").inner_text() == near


def test_labels_in_the_legend_hide_their_points(opened: Any) -> None:
    page = opened("bernoulli, plane")
    page.locator("#plane[data-drawn]").wait_for()
    picture = "document.querySelector('#plane canvas').toDataURL()"
    before = page.evaluate(picture)
    button = page.locator("#legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert page.evaluate(picture) != before
