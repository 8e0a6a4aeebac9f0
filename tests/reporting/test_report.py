"""`python -m vaelab.report`: the page and the tables of a sweep whose jobs are in any state."""

import csv
import json
import math
import re
import shutil
import statistics
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.commands import FAILURE, USAGE, Run, assert_one_line, run_main
from tests.helpers.sweep_folders import SHA256, finished_job, grid, killed_job, plan, running_job, stopped_job
from tests.helpers.wandb_files import only
from vaelab import report as report_command
from vaelab.reporting import pictures
from vaelab.reporting.gathering import Report, gather
from vaelab.reporting.page import render
from vaelab.reporting.plots import Axes, Plot, plots_of
from vaelab.reporting.reading import STATES, Entry
from vaelab.reporting.settings import assign_settings
from vaelab.runs.folder.contents import FORMAT_VERSION
from vaelab.sweeps.folder import SweepFolder

HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(2)>"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def gridded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two decoders, two latents and two seeds, with its report; for reading only."""
    path = tmp_path_factory.mktemp("gridded") / "sweep"
    path.mkdir()
    sizes = [(f"latent_dim={size}", f"seed={seed}") for size in (2, 5) for seed in (0, 1, 2)]
    plan(path, *((f"decoder={decoder}", *more) for decoder in ("bernoulli", "gaussian") for more in sizes))
    grid(path)
    run_main(report_command.main, path.parent, "sweep=sweep")
    return path


@pytest.fixture
def run_report(tmp_path: Path) -> Run:
    """`run_report("sweep=sweep", code=0)`: run vaelab.report in `tmp_path`."""
    return partial(run_main, report_command.main, tmp_path)


def stored_report(sweep: Path) -> dict[str, Any]:
    return json.loads((sweep / "report.json").read_text())


def page(sweep: Path) -> str:
    return (sweep / "report.html").read_text(encoding="utf-8")


def own_part(html: str) -> str:
    """The page without scripts and style, which are the same for all sweeps."""
    return re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)


def plots(report: Report, group: int = 0) -> dict[str, Plot]:
    return plots_of(report.groups[group], Axes(report))


# a trained sweep


def test_rows_have_the_numbers_of_the_run_folders(swept: Path) -> None:
    rows = stored_report(swept)["rows"]
    assert [row["source"] for row in rows] == ["metrics.json"] * 2
    for row in rows:
        metrics = json.loads((swept / row["job"] / "metrics.json").read_text())
        for column in ("log_likelihood", "standard_error", "elbo", "reconstruction", "kl", "active_units"):
            assert row[column] == metrics[f"test/{column}"]
        assert row["bits_per_dim"] == metrics.get("test/log_likelihood_bits_per_dim")
        assert row["seconds"] == json.loads((swept / row["job"] / "status.json").read_text())["seconds"]


def test_only_an_evaluation_with_another_k_adds_a_group(copied: Path, run_report: Run, run_evaluate: Run) -> None:
    for more, sources in (((), ["metrics.json"]), (("num_samples=7",), ["metrics.json", "evaluation.json"])):
        run_evaluate(f"run_dir={copied}", *more)
        run_report(f"sweep={copied.parent}")
        report = stored_report(copied.parent)
        assert [(row["source"], row["rank"]) for row in report["rows"]] == [(source, 1) for source in sources]
        assert all(row["amortization_gap"] is not None for row in report["rows"])
    ks = [group["comparability"]["estimators"]["importance"]["num_samples"] for group in report["groups"]]
    assert ks == [2, 7]


def test_without_a_plan_settings_come_from_the_configurations(swept: Path, tmp_path: Path, run_report: Run) -> None:
    shutil.copytree(swept, tmp_path / "sweep", ignore=shutil.ignore_patterns("sweep.json", "wandb"))
    run_report("sweep=sweep", "wandb_mode=disabled")
    report = stored_report(tmp_path / "sweep")
    assert report["settings_that_differ"] == ["decoder"]
    assert {row["setting:decoder"] for row in report["rows"]} == {"Bernoulli", "DiagonalGaussian PerPixelScale"}
    assert report["settings_held_equal"]["batch_size"] == 100
    assert not (tmp_path / "sweep" / "wandb").exists()


def test_the_page_shows_each_jobs_figures(swept: Path) -> None:
    html = own_part(page(swept))
    assert html.count('src="data:image/webp;base64,') == 2 * 5
    for row in stored_report(swept)["rows"]:
        assert f'alt="reconstructions of {row["job"]} (' in html
        assert f'href="./{row["job"]}/"' in html


def test_the_report_is_a_wandb_run_in_the_sweeps_group(swept: Path) -> None:
    read = only(swept)
    assert (read.run["run_group"], read.run["job_type"], read.run["project"]) == ("look", "report", "mine")
    rows = stored_report(swept)["rows"]
    assert read.summary["best.group_1.log_likelihood"] == rows[0]["log_likelihood"]
    assert read.exit_code == 0
    (table,) = (swept / "wandb").rglob("*.table.json")
    assert len(json.loads(table.read_text())["data"]) == 2
    assert gather(swept).counts == {"done": 2}  # W&B's folder is not a job


# groups


def test_masses_and_densities_share_no_ranking_and_no_plot(gridded: Path) -> None:
    report = gather(gridded)
    for i, (group, positive) in enumerate(zip(report.groups, (False, True), strict=True)):
        assert [ranked.rank for ranked in group.ranked] == [1, 2, 3, 4]
        scores = [ranked.score for ranked in group.ranked]
        assert scores == sorted(scores, reverse=True)
        plotted = [y for trace in plots(report, i)["log p(x) by latent_dim"]["data"] for y in trace["y"]]
        assert {value > 0 for value in (*scores, *plotted)} == {positive}


@pytest.mark.parametrize("more", [{"seed": 1}, {"sha256": dict.fromkeys(SHA256, "0" * 64)}, {"num_levels": 256}])
def test_other_data_are_another_group(more: dict[str, Any], sweep: Path) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    with running_job(sweep, "latent_dim=3", **more) as folder:
        folder.finish({"test/elbo": -2.0})
    assert len(gather(sweep).groups) == 2


def test_the_best_number_says_what_it_is(sweep: Path, run_report: Run) -> None:
    numbers = {"log_likelihood": -105.49, "standard_error": 0.0054, "bias": -0.31, "pareto_k_bad": 0.93}
    numbers |= {"num_samples": 100, "log_likelihood_sampling_error": 0.42, "elbo": -107}
    with running_job(sweep, "latent_dim=2") as folder:
        folder.finish({f"test/{name}": value for name, value in numbers.items()})
    printed = run_report(f"sweep={sweep}", "wandb_mode=disabled").out
    page = (sweep / "report.html").read_text()
    assert "<b>−105.49</b> ± 0.42 (over examples and draws) nats" in page
    words = "a lower bound of log p(x) with K = 100; the proposal is poor for 93% of the examples (Pareto k above "
    words += "0.50); too low by at least 0.31 nats, and its samples cannot tell by how much more: log p(x) is at least "
    words += "-105.50"
    assert f"This is {words}." in page
    assert f"- group 1: the best is {words}" in printed
    assert "0.420" in printed
    assert stored_report(sweep)["groups"][0]["best_is"] == words


def test_each_estimator_is_a_group_of_its_own(sweep: Path) -> None:
    for seed in (0, 1):
        with running_job(sweep, "estimator=all", f"seed={seed}") as folder:
            values = {"elbo": -4.0, "importance/log_likelihood": -3.0 - seed, "ais/log_likelihood": -2.5 + seed}
            folder.finish({f"test/{name}": value for name, value in values.items()})
    finished_job(sweep, "estimator=importance", "estimator.num_samples=20", value=-3)
    report = gather(sweep)
    scores = {group.title.split(" · ")[-1].split(" (")[0]: [r.score for r in group.ranked] for group in report.groups}
    assert scores == {"importance K=100": [-3.0, -4.0], "ais": [-1.5, -2.5], "importance K=20": [-3.0]}
    assert "These 3 groups differ in estimators (importance K=100, ais (" in report.as_json()


def test_a_job_without_an_estimate_has_no_rank(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    finished_job(sweep, "latent_dim=3", value=-2)
    for size, more in ((4, {"test/log_likelihood": math.nan}), (5, {})):
        with running_job(sweep, f"latent_dim={size}") as folder:
            folder.finish({"test/elbo": -1.0, **more})
    report = gather(sweep)
    (group,) = report.groups
    assert group.by == "log_likelihood"
    assert [(r.rank, r.score) for r in group.ranked] == [(1, -2), (2, -3), (None, None), (None, None)]
    (trace,) = plots(report)["log p(x) by latent_dim"]["data"]
    assert (trace["x"], trace["y"]) == ([2, 3], [-3, -2])
    sentence = "2 of 4 jobs have no log p(x), and so neither a rank nor a point in its plot."
    assert sentence in run_report("sweep=sweep").out
    assert sentence in own_part(page(sweep))
    assert "per dim" not in own_part(page(sweep))  # of binary pixels
    assert [row["elbo"] for row in stored_report(sweep)["rows"]] == [-3, -4, -1, -1]


def test_without_any_estimate_jobs_are_ranked_by_the_bound(sweep: Path) -> None:
    for seed in (0, 1):
        with running_job(sweep, f"seed={seed}") as folder:
            folder.finish({"test/elbo": -1.0 + seed})
    report = gather(sweep)
    (group,) = report.groups
    assert (group.by, group.unranked) == ("elbo", "")
    assert [(r.rank, r.score) for r in group.ranked] == [(1, 0), (2, -1)]
    assert "ELBO" in plots(report)


# settings


def entry(overrides: str = "", **flat: Any) -> Entry:
    return Entry("job", Path("job"), tuple(overrides.split()), flat=flat)


@pytest.mark.parametrize(
    ("entries", "columns"),
    [
        ([entry(a=1), entry(a=1)], []),
        ([entry("seed=0 latent_dim=2"), entry("seed=1 latent_dim=3")], ["latent_dim", "seed"]),
        ([entry(hidden_features=8, **{"network.hidden_features": 8}), entry(hidden_features=9)], ["hidden_features"]),
        ([entry(seed=i, **{"o.lr": lr, "x.lr": lr}) for i, lr in enumerate((0.1, 0.1, 0.2))], ["o.lr", "seed"]),
        ([entry(**{"d._target_": "m.A", "d.s": i}) for i in (0, 1)] + [entry(**{"d._target_": "m.B"})], ["d", "d.s"]),
    ],
)
def test_columns_are_the_settings_that_differ(entries: list[Entry], columns: list[str]) -> None:
    assert assign_settings(entries) == columns


def test_an_unplanned_job_takes_the_label_of_a_planned_one(sweep: Path) -> None:
    planned = [(f"decoder={name}", "seed=0") for name in ("bernoulli", "gaussian")]
    plan(sweep, *planned)
    for overrides in planned:
        finished_job(sweep, *overrides, value=-1)
    finished_job(sweep, "decoder=gaussian", "seed=1", value=-1)
    settings = {entry.name: entry.settings for entry in gather(sweep).entries}
    assert settings["decoder_gaussian-seed_1"] == {"decoder": "gaussian", "seed": 1}


def test_many_values_of_a_setting_are_counted(sweep: Path, run_report: Run) -> None:
    SweepFolder(sweep).add({f"job_{i}": [f"optimizer.lr={i}"] for i in range(13)})
    run_report("sweep=sweep")
    assert "<dt>optimizer.lr</dt><dd>13 values</dd>" in page(sweep)


# plots


def test_a_point_is_the_mean_and_deviation_over_seeds(sweep: Path) -> None:
    values = (-3.0, -4.0, -4.5)
    for seed, value in enumerate(values):
        finished_job(sweep, "latent_dim=2", f"seed={seed}", value=value)
    finished_job(sweep, "latent_dim=5", "seed=0", value=-2)
    trace, dots = plots(gather(sweep))["log p(x) by latent_dim"]["data"]
    assert trace["x"] == [2, 5]
    assert trace["y"] == pytest.approx([statistics.mean(values), -2])
    assert trace["y_spread"] == pytest.approx([statistics.stdev(values), 0.01])  # the estimate's own error
    assert "latent_dim_2-seed_1" in trace["text"][0]
    assert sorted(dots["y"]) == sorted(values)


def test_each_decoder_has_its_line(sweep: Path) -> None:
    for name in ("gaussian", "logistic"):
        for size in (2, 5):
            finished_job(sweep, f"decoder={name}", f"latent_dim={size}", value=size, pixels="unit", active=size)
    drawn = plots(gather(sweep))
    lines = {trace["name"]: trace["style"] for trace in drawn["log p(x) by latent_dim"]["data"]}
    assert set(lines) == {"DiagonalGaussian PerPixelScale", "Logistic PerPixelScale"}
    assert {trace["name"]: trace["style"] for trace in drawn["Rate and distortion"]["data"]} == lines
    assert [trace["y"] for trace in drawn["Active units by latent_dim"]["data"]] == [[2, 5]] * 3  # the last: all units


@pytest.mark.parametrize(
    ("jobs", "x", "lines"),
    [
        ([("seed=0",), ("seed=1",)], None, []),
        (
            [("objective.beta=1", "decoder=bernoulli"), ("objective.beta=4", "decoder=gaussian")],
            *("objective.beta", ["decoder"]),
        ),
        ([("decoder=bernoulli",), ("decoder=gaussian",)], "decoder", []),
        ([("batch_size=10", "latent_dim=2"), ("batch_size=20", "latent_dim=3")], "latent_dim", ["batch_size"]),
    ],
)
def test_x_is_latent_dim_or_else_a_number_that_differs(
    jobs: list[tuple[str, ...]], x: str | None, lines: list[str], sweep: Path
) -> None:
    plan(sweep, *jobs)
    axes = Axes(gather(sweep))
    assert (axes.x, axes.lines) == (x, lines)


# states of jobs


def test_a_report_shows_jobs_in_every_state(sweep: Path, run_report: Run) -> None:
    jobs = [(f"latent_dim={size}",) for size in range(2, 9)]
    plan(sweep, *jobs)
    finished_job(sweep, *jobs[0], value=-3)
    stopped_job(sweep, ValueError("the loss is not finite\nand more"), *jobs[1])
    stopped_job(sweep, KeyboardInterrupt(), *jobs[2])
    killed_job(sweep, *jobs[3])
    (finished_job(sweep, *jobs[4], value=-1) / "metrics.json").write_text('{"test/elbo": "')
    with running_job(sweep, *jobs[5]):
        outcome = run_report("sweep=sweep")
    report = stored_report(sweep)
    assert report["jobs"] == dict.fromkeys(STATES, 1)
    states = {row["state"]: row for row in report["rows"]}
    assert states["failed"]["error"] == "ValueError: the loss is not finite"
    assert states["killed"]["error"] == "its process was killed"
    assert states["damaged"]["error"].startswith("metrics.json is damaged")
    assert states["waiting"]["setting:latent_dim"] == 8
    html = own_part(page(sweep))
    assert "Traceback (most recent call last)" in html
    assert "latent_dim_3/train.log" in html
    assert "1 done, 1 running, 1 waiting" in outcome.out
    assert "written: sweep/report.html" in outcome.out


@pytest.mark.parametrize("state", ["running", "failed"])
def test_numbers_of_a_job_that_trains_again_are_left_out(state: str, sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    job = finished_job(sweep, "latent_dim=3", value=-2)
    status = json.loads((job / "status.json").read_text())
    (job / "status.json").write_text(json.dumps(status | {"state": state}))
    (job / ".lock").unlink()  # as if the job ran on another machine
    outcome = run_report("sweep=sweep")
    rows = {row["job"]: row for row in stored_report(sweep)["rows"]}
    row = rows[job.name]
    assert (row["state"], row["rank"], row["log_likelihood"]) == (state, None, None)
    assert row["note"] == f"metrics.json left out, because the job is {state}, not done"
    assert row["note"] in own_part(page(sweep))
    assert f"- {job.name}: {row['note']}" in outcome.out
    assert rows["latent_dim_2"]["rank"] == 1


@pytest.mark.parametrize(
    ("weights", "differing"), [("last", None), ("last", "steps"), ("best", None), ("best", "steps")]
)
def test_an_evaluation_of_other_weights_is_left_out(weights: str, differing: str | None, sweep: Path) -> None:
    job = finished_job(sweep, "latent_dim=2", value=-3)
    counts = {"steps": 20, "samples_seen": 2000, "best/steps": 10, "best/samples_seen": 1000}
    metrics = json.loads((job / "metrics.json").read_text())
    (job / "metrics.json").write_text(json.dumps(metrics | counts))
    key = gather(sweep).groups[0].key | {"dequantizations": 2}
    prefix = "best/" if weights == "best" else ""
    own = {name: counts[prefix + name] + (name == differing) for name in ("steps", "samples_seen")}
    evaluation = {"test/log_likelihood": -2.5, "comparability": key, "checkpoint": weights, **own}
    (job / "evaluation.json").write_text(json.dumps(evaluation))
    rows = gather(sweep).rows
    assert [row["source"] for row in rows] == ["metrics.json"] + (["evaluation.json"] if differing is None else [])
    note = "evaluation.json left out, because it has other weights than metrics.json: evaluate again"
    assert {row["note"] for row in rows} == {None if differing is None else note}


DAMAGE = [  # file, content, part of the reason
    ("config.yaml", "a: &x 1", "anchor"),
    ("status.json", '{"state": ["done"]}', "has state ['done']"),
    ("record.json", '{"data": {"pixels": "binary", "sizes": 3}}', "unexpected structure"),
    ("metrics.json", '{"test/elbo": "high"}', "expected a number"),
    ("evaluation.json", '{"comparability": {"split": "test", "estimators": 3}, "checkpoint": 1}', "unexpected"),
    ("evaluation.json", '{"comparability": {"split": "", "estimators": {"a": 3}}, "/kl": 1, "checkpoint": 1}', "'int'"),
]


def test_a_damaged_job_affects_no_other(sweep: Path) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    for i, (file, content, _) in enumerate(DAMAGE):
        (finished_job(sweep, f"latent_dim={i + 3}", value=-2) / file).write_text(content)
    rows = {row["job"]: row for row in gather(sweep).rows}
    assert rows["latent_dim_2"]["state"] == "done"
    for i, (_, _, reason) in enumerate(DAMAGE):
        assert rows[f"latent_dim_{i + 3}"]["state"] == "damaged"
        assert reason in rows[f"latent_dim_{i + 3}"]["error"]


def test_a_strangers_estimator_is_not_imported(sweep: Path) -> None:
    file = finished_job(sweep, "estimator=importance", value=-3) / "config.yaml"
    text = file.read_text().replace("vaelab.estimators.ImportanceSampling", "mypkg.Evil")
    file.write_text(text)
    assert gather(sweep).groups[0].key["estimators"] == {"Evil": {"class": "mypkg.Evil", "num_samples": 100}}
    file.write_text(text.replace("mypkg.Evil", "vaelab.files.write_atomically"))
    assert "expected a public name of" in gather(sweep).rows[0]["error"]


# what a stranger wrote


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
    assert [picture.kind for picture in pictures.pictures_of(gather(sweep)).shown] == ["reconstructions"]


def test_the_csv_neutralises_formulas(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3).rename(sweep / "=cmd()")
    run_report("sweep=sweep")
    (row,) = csv.DictReader((sweep / "report.csv").open())
    assert (row["job"], row["log_likelihood"]) == ("'=cmd()", "-3")


# what is written


def cells(html: str) -> list[list[str]]:
    """Return the values of the page's table, row by row."""
    table = html[html.index("<table") : html.index("</table>")]
    rows = re.findall(r"<tr data-state.*?</tr>", table, flags=re.DOTALL)
    return [[unescape(value) for value in re.findall(r'<td[^>]*data-value="([^"]*)"', row)] for row in rows]


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


def test_too_many_jobs_show_pictures_of_the_best_per_setting(gridded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_JOBS", 6)
    report = gather(gridded)
    chosen = pictures.pictures_of(report)
    assert {picture.ranked.entry.settings["seed"] for picture in chosen.shown} == {1}  # the better seed in `grid`
    assert "Pictures of 4 of 8 jobs" in chosen.left_out
    assert chosen.left_out in unescape(render(report, chosen))


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
