"""`python -m vaelab.report`: the page and the tables of a sweep, whatever its jobs hold."""

import csv
import json
import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from PIL import Image

from tests.helpers.commands import FAILURE, USAGE, Run, assert_one_line
from tests.helpers.reports import cells, own_part, page, plots, stored_report
from tests.helpers.sweep_folders import finished_job, plan, stopped_job
from tests.helpers.wandb_files import Read, only, wandb_files
from vaelab.reporting import pictures
from vaelab.reporting.gathering import gather
from vaelab.reporting.page import render
from vaelab.runs.folder.contents import FORMAT_VERSION

HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(2)>"


# a trained sweep


@pytest.mark.slow
def test_rows_have_the_numbers_of_the_run_folders(swept: Path) -> None:
    rows = stored_report(swept)["rows"]
    assert [row["source"] for row in rows] == ["metrics.json"] * 2
    for row in rows:
        metrics = json.loads((swept / row["job"] / "metrics.json").read_text())
        same = ("log_likelihood", "standard_error", "elbo", "reconstruction", "kl", "active_units", "coverage_90")
        for column in same:
            assert row[column] == metrics[f"test/{column}"]
        assert row["bits_per_dim"] == metrics.get("test/log_likelihood_bits_per_dim")
        assert row["seconds"] == json.loads((swept / row["job"] / "status.json").read_text())["seconds"]


@pytest.mark.slow
def test_only_an_evaluation_with_another_k_adds_a_group(copied: Path, run_report: Run, run_evaluate: Run) -> None:
    for more, sources in (((), ["metrics.json"]), (("num_samples=7",), ["metrics.json", "evaluations"])):
        run_evaluate(f"run_dir={copied}", *more)
        run_report(f"sweep={copied.parent}")
        report = stored_report(copied.parent)
        assert [(row["source"].split("/")[0], row["rank"]) for row in report["rows"]] == [(s, 1) for s in sources]
        assert all(row["amortization_gap"] is not None for row in report["rows"])
    ks = [group["comparability"]["estimators"]["importance"]["num_samples"] for group in report["groups"]]
    assert ks == [2, 7]


@pytest.mark.slow
def test_without_a_plan_settings_come_from_the_configurations(swept: Path, tmp_path: Path, run_report: Run) -> None:
    shutil.copytree(swept, tmp_path / "sweep", ignore=shutil.ignore_patterns("sweep.json", "wandb"))
    run_report("sweep=sweep", "wandb_mode=disabled")
    report = stored_report(tmp_path / "sweep")
    assert report["settings_that_differ"] == ["decoder"]
    assert {row["setting:decoder"] for row in report["rows"]} == {"Bernoulli", "DiagonalGaussian PerPixelScale"}
    assert report["settings_held_equal"]["batch_size"] == 100
    assert not (tmp_path / "sweep" / "wandb").exists()


@pytest.mark.slow
def test_the_page_shows_each_jobs_figures(swept: Path) -> None:
    html = own_part(page(swept))
    assert html.count('src="data:image/webp;base64,') == 2 * 6
    for row in stored_report(swept)["rows"]:
        assert f'alt="reconstructions of {row["job"]} (' in html
        assert f'href="./{row["job"]}/"' in html


@pytest.mark.slow
def test_the_report_is_a_wandb_run_in_the_sweeps_group(swept: Path) -> None:
    read = only(swept)
    assert (read.run["run_group"], read.run["job_type"], read.run["project"]) == ("look", "report", "mine")
    rows = stored_report(swept)["rows"]
    assert read.summary["best.group_1.log_likelihood"] == rows[0]["log_likelihood"]
    assert read.exit_code == 0
    (table,) = (swept / "wandb").rglob("*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 2
    assert gather(swept).counts == {"done": 2}  # W&B's folder is not a job


@pytest.mark.slow
def test_a_later_report_is_the_same_wandb_run(swept: Path, tmp_path: Path, run_report: Run) -> None:
    shutil.copytree(swept, tmp_path / "look")
    run_report("sweep=look")
    first, second = map(Read, wandb_files(tmp_path / "look"))
    assert first.run["run_id"] == second.run["run_id"]


@pytest.mark.slow
def test_online_a_later_report_resumes_its_run(
    swept: Path, tmp_path: Path, run_report: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(swept, tmp_path / "look")
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> Any:
        asked.append(options)
        return MagicMock(dir=str(tmp_path / "run" / "files"))

    monkeypatch.setattr("wandb.init", init)
    run_report("sweep=look", "wandb_mode=online")
    (options,) = asked
    assert (options["id"], options["resume"]) == (only(swept).run["run_id"], "allow")


# what a stranger wrote


@pytest.mark.slow
def test_the_page_escapes_a_strangers_texts(sweep: Path, run_report: Run) -> None:
    stopped_job(sweep, ValueError(HOSTILE), "latent_dim=2")
    for seed in (0, 1):
        name = f"latent_dim_3-seed_{seed}-{HOSTILE.replace('/', '')}"
        finished_job(sweep, "latent_dim=3", f"seed={seed}", value=-3).rename(sweep / name)
    file = sweep / "sweep.json"
    plan(sweep, ("latent_dim=2",))
    stored = json.loads(file.read_text())
    file.write_text(json.dumps(stored | {"jobs": stored["jobs"] | {"other": [f"decoder={HOSTILE}"]}}))
    run_report("sweep=sweep")
    html = own_part(page(sweep))
    assert page(sweep).count("<script") == page(sweep).count("</script>") == html.count("<script") + 2 == 2
    assert "<img src=x" not in html
    assert "alert(1)" in html
    assert "\u2028" not in page(sweep)
    assert not re.findall(r'(?:href|src)="(?!\./|data:|#)', html)
    for plot in plots(gather(sweep)).values():
        assert "<script" not in str(plot["data"])
    assert "default-src 'none'" in html


def test_no_file_holds_a_secret_or_the_home_folder(
    sweep: Path, run_report: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_job(sweep, ValueError("token hunter2hunter2 in /home/jane/x"), "latent_dim=2")
    log = sweep / "latent_dim_2" / "train.log"
    log.write_text("Traceback\nhunter2hunter2 /home/jane/y")
    status = sweep / "latent_dim_2" / "status.json"
    status.write_text(status.read_text().replace("~", "/home/jane"))
    monkeypatch.setenv("HOME", "/home/jane")
    monkeypatch.setenv("MY_TOKEN", "hunter2hunter2")
    outcome = run_report("sweep=sweep")
    for text in [outcome.out, *(file.read_text() for file in sweep.glob("report.*"))]:
        assert "hunter2" not in text
        assert "/home/jane" not in text
    assert "[MY_TOKEN] ~/y" in page(sweep)


def test_only_png_files_within_the_limits_are_shown(sweep: Path) -> None:
    figures = finished_job(sweep, "latent_dim=2", value=-3) / "figures"
    (figures / "samples.png").write_bytes(b"GIF89a")
    (figures / "manifold.png").unlink()
    (figures / "manifold.png").symlink_to(figures / "reconstructions.png")
    Image.new("1", (pictures.MOST_PIXELS + 1, 1)).save(figures / "wide.png")
    assert [picture.kind for picture in pictures.pictures_of(gather(sweep))[0]] == ["reconstructions"]


def test_the_csv_neutralises_formulas(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3).rename(sweep / "=cmd()")
    run_report("sweep=sweep")
    (row,) = csv.DictReader((sweep / "report.csv").open())
    assert (row["job"], row["log_likelihood"]) == ("'=cmd()", "-3")


# what is written


def test_page_csv_and_json_say_the_same(gridded: Path) -> None:
    rows = stored_report(gridded)["rows"]
    with (gridded / "report.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    columns = [
        *("rank", "setting:decoder", "setting:latent_dim", "setting:seed", "log_likelihood", "standard_error", "elbo"),
        *("reconstruction", "kl", "active_units", "bits_per_dim", "pareto_k_bad", "seconds", "state", "job"),
    ]
    numbered = [row for row in table if row["rank"]]
    assert cells(page(gridded))[: len(numbered)] == [[row[column] for column in columns] for row in numbered]
    assert len(cells(page(gridded))) == len(table) == 12
    assert "Without results so far" in page(gridded)


def test_too_many_jobs_show_pictures_of_a_seed_per_setting(gridded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_JOBS", 6)
    report = gather(gridded)
    chosen, left_out = pictures.pictures_of(report)
    assert {picture.ranked.entry.settings["seed"] for picture in chosen} == {0}
    assert "Pictures of 4 of 8 jobs" in left_out
    assert left_out in unescape(render(report, chosen, left_out))


def test_the_page_says_that_versions_differ(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    file = finished_job(sweep, "latent_dim=3", value=-2) / "record.json"
    stored = json.loads(file.read_text())
    stored["environment"]["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(stored))
    run_report("sweep=sweep")
    assert stored_report(sweep)["environments"]["torch"]["1.0"] == 1
    assert "1.0 (1 jobs): jobs differ" in re.sub(r"\s+", " ", own_part(page(sweep)))


# what is refused


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["sweep=nowhere"], "nowhere is not a folder; there are sweep: give sweep=logs/sweeps/NAME", FAILURE),
        (["sweep=sweep"], "sweep holds neither a run folder nor the plan of a sweep", FAILURE),
        (["sweep=sweep/job"], "is a run folder, not a sweep's folder: give sweep=sweep", FAILURE),
        (["sweep=sweep", "wandb_mode=loud"], "wandb_mode must be offline, online or disabled", USAGE),
        ([], "sweep", USAGE),
    ],
)
def test_a_refusal_is_one_line(arguments: list[str], words: str, code: int, sweep: Path, run_report: Run) -> None:
    if "sweep=sweep/job" in arguments:
        finished_job(sweep, value=-3).rename(sweep / "job")
    assert_one_line(run_report(*arguments, code=code), words)
    assert not list(sweep.glob("report.*"))


@pytest.mark.parametrize("jobs", [{"..": []}, {"a": "seed=0"}])
def test_a_plan_with_a_path_outside_is_refused(jobs: Any, sweep: Path, run_report: Run) -> None:
    (sweep / "sweep.json").write_text(json.dumps({"format_version": FORMAT_VERSION, "jobs": jobs}))
    assert "is not the plan of a sweep" in run_report("sweep=sweep", code=FAILURE).err
