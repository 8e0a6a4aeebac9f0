"""The table of settings: on the page, and to paste as Markdown and LaTeX."""

import csv
import re
from html import unescape
from pathlib import Path

import pytest

from tests.helpers.commands import Run
from tests.helpers.reports import own_part, page, stored_report
from tests.helpers.sweep_folders import finished_job, stopped_job
from vaelab.reporting.gathering import gather
from vaelab.reporting.settings_table import IN_LATEX, IN_MARKDOWN, SettingsTable


@pytest.fixture
def told(sweep: Path) -> Path:
    """A sweep in which latent_dim=5 is best, 3 is a lower bound, and a seed of 2 failed."""
    for seed in (0, 1):
        finished_job(sweep, "latent_dim=5", f"seed={seed}", value=-3.0 + seed / 10)
        finished_job(sweep, "latent_dim=3", f"seed={seed}", value=-4.0 + seed / 10, bad=0.5)
    finished_job(sweep, "latent_dim=2", "seed=0", value=-5.0)
    stopped_job(sweep, ValueError("it broke"), "latent_dim=2", "seed=1")
    return sweep


def table(sweep: Path) -> SettingsTable:
    return gather(sweep).tables[1]


def test_the_cells_are_means_errors_and_differences(told: Path) -> None:
    first, second = gather(told).tables[1].comparisons
    assert first.difference is not None
    assert second.difference is not None
    assert table(told).cells == [
        ["latent_dim", "seeds", "validation ELBO", "log p(x)", "difference"],
        ["5", "2", "−3.95", "−2.95 ± 0.05", "–"],
        ["3", "2", "−4.95", "≥ −3.95", f"−1.00 ± {first.difference.half_width:.2f}"],
        ["2", "1 (1 failed)", "−6.00", "−5.00", f"−2.05 ± {second.difference.half_width:.2f}"],
    ]


def test_the_verdicts_are_words(told: Path) -> None:
    assert [row.verdict for row in table(told).rows] == [
        "chosen by validation",
        "worse than the best",
        "worse than the best (as trained models)",
    ]


def test_the_page_shows_the_table(told: Path, run_report: Run) -> None:
    run_report("sweep=sweep")
    html = own_part(page(told))
    start = html.index('<table class="settings"')
    rows = re.findall(r"<tr.*?</tr>", html[start : html.index("</table>", start)], flags=re.DOTALL)
    text = [re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", row))) for row in rows]
    assert "−2.95 ± 0.05 chosen by validation" in text[1]
    assert "−3.95 lower bound" in text[2]
    assert "± 0.05" not in text[2]
    assert "worse than the best" in text[2]
    assert "1 1 failed" in text[3]


def test_a_setting_that_all_rows_share_is_in_the_title(gridded: Path) -> None:
    bernoulli, gaussian = gather(gridded).tables.values()
    assert (bernoulli.columns, bernoulli.shared) == (["latent_dim"], "decoder=bernoulli")
    assert gaussian.title.endswith(" · decoder=gaussian")


def test_markdown_and_latex_have_the_cells(told: Path, run_report: Run) -> None:
    run_report("sweep=sweep")
    cells, markdown, latex = table(told).cells, (told / "report.md").read_text(), (told / "report.tex").read_text()
    rows = [[*map(str.strip, line.strip("|").split("|"))] for line in markdown.splitlines() if line.startswith("|")]
    assert [rows[0], *rows[2:]] == cells
    assert len(rows[1]) == len(cells[0])
    assert r"    3 & 2 & $-$4.95 & $\geq$ $-$3.95 & $-$1.00 $\pm$ " in latex
    assert r"    latent\_dim & seeds & validation ELBO & log p(x) & difference \\" in latex
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 1
    assert latex.count("{") == latex.count("}")


def test_special_characters_are_escaped() -> None:
    assert r"50% of a_b & {c} ~ ^ \ $".translate(IN_LATEX) == (
        r"50\% of a\_b \& \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{} \$"
    )
    assert "a|b <i> *c* `d`\n".translate(IN_MARKDOWN) == r"a\|b &lt;i> \*c\* \`d\` "


def test_csv_and_json_have_the_data_of_settings(told: Path, run_report: Run) -> None:
    run_report("sweep=sweep")
    rows = list(csv.DictReader((told / "report.csv").open()))
    assert [(row["rank"], row["seeds"], row["failed_seeds"], row["mean"]) for row in rows] == [
        *[("1", "2", "0", "-2.95")] * 2,
        *[("2", "2", "0", "-3.95")] * 2,
        ("3", "1", "1", "-5.0"),
        ("", "", "", ""),
    ]
    assert [row["difference_from_best"] == "" for row in rows] == [True, True, False, False, False, True]
    best, second, third = stored_report(told)["groups"][0]["settings"]
    assert best["best_compared_to_it"] is None
    assert second["best_compared_to_it"]["difference"] == pytest.approx(1.0)
    assert (second["bounds"], third["seeds"], third["failed"]) == (True, [0], 1)
