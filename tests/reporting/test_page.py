"""The report's page in a browser, offline: sorting, filters, hovering, themes, contrast and a phone."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.contrast import LOW_CONTRAST
from tests.helpers.sweep_folders import grid, keep_curve, plan, stopped_job
from vaelab.reporting.gathering import gather
from vaelab.reporting.page import render
from vaelab.reporting.pictures import pictures_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sweep = tmp_path_factory.mktemp("browsed") / "sweep"
    sweep.mkdir()
    grid(sweep)
    for job in sweep.iterdir():
        keep_curve(job, [(100.0 * epoch, -40.0 - 30 / epoch) for epoch in range(1, 9)])
    stopped_job(sweep, ValueError("<b>the loss</b>"), "decoder=gaussian", "latent_dim=9", "seed=0")
    plan(sweep, ("decoder=bernoulli", "latent_dim=9", "seed=1"))
    report = gather(sweep)
    (sweep / "report.html").write_text(render(report, *pictures_of(report)), encoding="utf-8")
    return sweep / "report.html"


@pytest.fixture
def opened(visit: Any, file: Path) -> Any:
    """`opened(viewport=..., color_scheme=...)`: open the page."""
    return partial(visit, file, ".plot .main-svg")


def column(page: Any, place: int) -> list[list[str]]:
    """Return the values of a column's visible rows, group by group."""
    script = """place => [...document.querySelectorAll('#table tbody')].filter(body => !body.hidden).map(
        body => [...body.rows].filter(row => !row.matches('.title') && !row.hidden)
            .map(row => row.cells[place]?.dataset.value ?? ''))"""
    return page.evaluate(script, place)


def test_a_header_sorts_within_each_group(opened: Any) -> None:
    page = opened()
    heads = page.locator("#table thead th")
    names = [text.split("\n")[0].strip() for text in heads.all_inner_texts()]
    place = names.index("KL")
    heads.nth(place).locator("button").focus()
    for order, key in (("ascending", "Enter"), ("descending", "Space")):
        page.keyboard.press(key)
        assert heads.nth(place).get_attribute("aria-sort") == order
        for values in column(page, place)[:2]:
            assert [float(v) for v in values] == sorted(map(float, values), reverse=order == "descending")
    heads.nth(place).locator("button").click()
    scores = column(page, names.index("log p(x)"))
    assert all(float(value) < 0 for value in scores[0])
    assert all(float(value) > 0 for value in scores[1])
    assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_words_states_and_settings_filter_the_rows(opened: Any) -> None:
    page = opened()
    count = page.locator("#count")
    assert count.inner_text() == "10 of 10 rows"
    page.fill("#find", "seed_1 gaussian")
    assert count.inner_text() == "2 of 10 rows"
    page.get_by_role("button", name="Reset", exact=True).click()
    assert count.inner_text() == "10 of 10 rows"
    page.locator("select[data-setting=latent_dim]").select_option("5")
    assert count.inner_text() == "4 of 10 rows"
    assert page.locator(".card:visible").count() == 4
    page.get_by_role("button", name="Reset", exact=True).click()
    page.locator("input[name=state][value=done]").uncheck()
    assert count.inner_text() == "2 of 10 rows"
    assert page.locator("#table tbody:visible").count() == 1


@pytest.mark.slow
def test_the_picker_shows_one_figure_at_a_time(opened: Any) -> None:
    page = opened()
    for kind in ("reconstructions", "samples", "manifold"):
        page.locator(f"input[name=kind][value={kind}]").check()
        shown = page.locator(".card:visible")
        assert {shown.nth(i).get_attribute("data-kind") for i in range(shown.count())} == {kind}
        assert page.evaluate(
            "[...document.querySelectorAll('.card img')].every(image => image.complete && image.naturalWidth > 0)"
        )
        assert all(image.get_attribute("alt") for image in page.locator(".card img").all())


def test_hovering_over_a_point_names_its_jobs(opened: Any) -> None:
    page = opened()
    plot = page.locator(".plot").first
    plot.scroll_into_view_if_needed()
    point = plot.locator(".scatterlayer .trace .points path").first.bounding_box()
    page.mouse.move(point["x"] + point["width"] / 2 + 30, point["y"] + 30)
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2, steps=5)
    hover = plot.locator(".hoverlayer .hovertext")
    hover.first.wait_for()
    assert "latent_dim_2-seed_" in (hover.first.text_content() or "")


def test_a_picture_opens_large_and_closes_by_keyboard(opened: Any) -> None:
    page = opened()
    picture = page.locator(".zoom:visible").nth(1)
    picture.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog img")
    assert large.get_attribute("src") == picture.locator("img").get_attribute("src")
    assert large.bounding_box()["width"] > 2 * picture.bounding_box()["width"]
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    picture.click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("dialog").is_visible()


def test_a_name_in_the_legend_hides_its_line_in_all_plots(opened: Any) -> None:
    page = opened()
    panel = page.locator(".panel").first
    before = page.evaluate(LINES)
    button = panel.locator(".legend button").first
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert before > 1
    page.wait_for_function(f"{LINES} === 1")  # of all units
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    page.wait_for_function(f"{LINES} === {before}")


def test_the_legend_covers_no_plot(opened: Any) -> None:
    page = opened()
    script = """() => [...document.querySelectorAll('.panel')].map(panel => {
        const bottoms = [...panel.querySelectorAll('.plot .main-svg')].map(e => e.getBoundingClientRect().bottom);
        return panel.querySelector('.legend').getBoundingClientRect().top - Math.max(...bottoms);
    })"""
    assert min(page.evaluate(script)) >= 0


def test_a_table_is_copied_as_markdown_and_latex(opened: Any) -> None:
    page = opened(permissions=["clipboard-read", "clipboard-write"])
    for kind, start in (("Markdown", "**digits"), ("LaTeX", "\\begin{table}")):
        page.get_by_text(f"Table as {kind}").first.click()
        page.get_by_role("button", name=f"Copy {kind}").first.click()
        page.get_by_role("button", name="Copied").nth(0).wait_for()
        assert page.evaluate("navigator.clipboard.readText()").startswith(start)


def test_page_and_plots_follow_the_theme(opened: Any) -> None:
    page = opened(color_scheme="dark")
    ink = "getComputedStyle(document.body).color"
    text = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    dark = page.evaluate(ink)
    assert page.evaluate(text) == dark
    assert page.evaluate(PAPER) != "rgb(255, 255, 255)"  # the white of figures is dimmed
    button = page.locator("#theme")
    button.click()
    light = page.evaluate(ink)
    assert button.inner_text() == "Theme: light"
    assert light != dark
    assert page.evaluate(text) == light
    button.click()
    assert page.evaluate(ink) == dark
    button.click()
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"light => {text} === light", arg=light, timeout=60_000)


LINES = "document.querySelector('.panel').querySelectorAll('.scatterlayer .trace').length"
PAPER = "getComputedStyle(document.querySelector('.zoom')).backgroundColor"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(scheme: str, opened: Any) -> None:
    page = opened(color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate(LOW_CONTRAST) == []


@pytest.mark.slow
def test_on_a_phone_the_table_scrolls_and_keeps_its_header(opened: Any) -> None:
    page = opened(viewport={"width": 360, "height": 740}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.tall'))")
    wide = "[...document.querySelectorAll('main > *, .plot, .card')].filter(e => e.getBoundingClientRect().right > 360)"
    assert page.evaluate(f"{wide}.length") == 0
    for table in ("#table", ".settings"):
        score = page.locator(f"{table} thead th", has_text="log p(x)").first.bounding_box()
        assert score["x"] + score["width"] <= 344
    page.evaluate("(e => { e.style.maxHeight = '200px'; e.scrollTop = 150; })(document.querySelector('.tall'))")
    tops = page.evaluate("['.tall', '#table thead th'].map(s => document.querySelector(s).getBoundingClientRect().top)")
    assert tops[1] - tops[0] < 3


def test_the_table_shows_without_scripts(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#table tbody tr:visible").count() == 13
    context.close()


def test_the_page_runs_nothing_that_a_stranger_wrote(opened: Any) -> None:
    page = opened()
    assert page.locator("#trouble ~ details b").count() == 0
    assert "<b>the loss</b>" in page.locator("details[data-state=failed] summary").inner_text()
