"""`python -m vaelab.report`: what the page and the tables say of a sweep, in whatever state its folders are."""

import csv
import json
import math
import re
import shutil
import statistics
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any, ClassVar

import plotly.graph_objects as go
import pytest
from PIL import Image
from pytorch_lightning.loggers import WandbLogger

from tests.helpers.commands import Run, fast, run_main
from tests.helpers.sweep_folders import SHA256, finished_job, grid, killed_job, plan, running_job, stopped_job
from vaelab import evaluate, report, train
from vaelab.reporting import pictures
from vaelab.reporting.gathering import Report, gather
from vaelab.reporting.page import render, slots_of
from vaelab.reporting.plots import axes_of, plots_of
from vaelab.reporting.reading import STATES, Entry
from vaelab.reporting.settings import settle

FAILURE, USAGE = 1, 2
HOSTILE = "</script><script>alert(1)</script>\u2028<img src=x onerror=alert(2)>"


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "sweep"
    path.mkdir()
    return path


@pytest.fixture
def run_report(tmp_path: Path) -> Run:
    """`run_report("sweep=sweep", code=0)`: vaelab.report in `tmp_path`."""
    return partial(run_main, report.main, tmp_path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over both kinds of pixels that vaelab.train made, with an evaluation of one job."""
    cwd = tmp_path_factory.mktemp("real")
    overrides = ("decoder=bernoulli,gaussian", "sweep.name=real")
    run_main(train.main, cwd, *fast("-m", *overrides, figures=True))
    sweep = cwd / "logs" / "sweeps" / "real"
    job = next(path for path in sorted(sweep.iterdir()) if "bernoulli" in path.name)
    run_main(evaluate.main, cwd, f"run_dir={job}", "num_samples=7")
    run_main(report.main, cwd, f"sweep={sweep}")
    return sweep


def told(sweep: Path) -> dict[str, Any]:
    return json.loads((sweep / "report.json").read_text())


def page(sweep: Path) -> str:
    return (sweep / "report.html").read_text(encoding="utf-8")


def own_part(html: str) -> str:
    """The page without its scripts and style, which are the same for all sweeps."""
    return re.sub(r"<(script|style)>.*?</\1>", "", html, flags=re.DOTALL)


def figures_of(found: Report, group: int = 0) -> dict[str, go.Figure]:
    axes = axes_of(found)
    return plots_of(found.groups[group], axes, slots_of(found.groups, axes))


# a sweep that vaelab.train made


def test_rows_have_the_numbers_of_the_run_folders(real: Path) -> None:
    rows = [row for row in told(real)["rows"] if row["source"] == "metrics.json"]
    assert len(rows) == 2
    for row in rows:
        found = json.loads((real / row["job"] / "metrics.json").read_text())
        for column in ("log_likelihood", "standard_error", "elbo", "reconstruction", "kl", "active_units"):
            assert row[column] == found[f"test/{column}"]
        assert row["bits_per_dim"] == found.get("test/log_likelihood_bits_per_dim")
        assert row["seconds"] == json.loads((real / row["job"] / "status.json").read_text())["seconds"]


def test_an_evaluation_stands_in_a_group_of_its_own_and_the_same_key_makes_it_one(real: Path) -> None:
    found = told(real)
    groups = {group["group"]: group["comparability"] for group in found["groups"]}
    samples = {number: key["estimators"]["importance"]["num_samples"] for number, key in groups.items()}
    members = {number: [row["job"] for row in found["rows"] if row["group"] == number] for number in groups}
    assert sorted((samples[number], len(jobs)) for number, jobs in members.items()) == [(2, 1), (2, 1), (7, 1)]
    (evaluated,) = [job for number, (job,) in members.items() if samples[number] == 7]
    assert json.loads((real / evaluated / "evaluation.json").read_text())["comparability"] in groups.values()


def test_an_evaluation_that_is_the_tests_own_adds_nothing(copied: Path, run_report: Run, run_evaluate: Run) -> None:
    run_evaluate(f"run_dir={copied}")
    run_report(f"sweep={copied.parent}")
    (row,) = told(copied.parent)["rows"]
    assert row["source"] == "metrics.json"


def test_settings_are_read_off_the_configurations_where_there_is_no_plan(
    real: Path, tmp_path: Path, run_report: Run
) -> None:
    shutil.copytree(real, tmp_path / "real", ignore=shutil.ignore_patterns("sweep.json"))
    run_report("sweep=real")
    found = told(tmp_path / "real")
    assert found["settings_that_differ"] == ["decoder"]
    assert {row["setting:decoder"] for row in found["rows"]} == {"Bernoulli", "DiagonalGaussian PerPixelScale"}
    assert found["settings_held_equal"]["batch_size"] == 100


def test_the_page_shows_the_figures_of_the_jobs(real: Path) -> None:
    html = own_part(page(real))
    assert html.count('src="data:image/webp;base64,') == 2 * 5
    for job in {row["job"] for row in told(real)["rows"]}:
        assert f'alt="reconstructions of {job} (' in html
        assert f'href="./{job}/"' in html


# groups


def test_a_mass_and_a_density_share_no_ranking_and_no_plot(sweep: Path) -> None:
    grid(sweep)
    found = gather(sweep)
    assert [[r.rank for r in group.ranked] for group in found.groups] == [[1, 2, 3, 4]] * 2
    for i, group in enumerate(found.groups):
        scores = [ranked.score for ranked in group.ranked]
        assert scores == sorted(scores, reverse=True)
        assert len({score > 0 for score in scores}) == 1
        for trace in next(iter(figures_of(found, i).values())).data:
            assert len({value > 0 for value in trace.y}) == 1
            assert {value > 0 for value in trace.y} == {scores[0] > 0}


@pytest.mark.parametrize(
    "more",
    [
        {"seed": 1},
        {"name": "other"},
        {"sha256": dict.fromkeys(SHA256, "0" * 64)},
        {"binarize": "fixed"},
    ],
)
def test_other_data_are_another_group(more: dict[str, Any], sweep: Path) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    with running_job(sweep, "latent_dim=3", **more) as folder:
        folder.finish({"test/elbo": -2.0})
    assert len(gather(sweep).groups) == 2


def test_another_number_of_samples_is_another_group(sweep: Path) -> None:
    finished_job(sweep, "estimator.num_samples=10", value=-3)
    finished_job(sweep, "estimator.num_samples=20", value=-2)
    found = gather(sweep)
    assert [len(group.ranked) for group in found.groups] == [1, 1]
    assert "estimator (importance K=10, importance K=20)" in found.as_data()["apart"]


def test_each_of_several_estimators_is_a_group(sweep: Path) -> None:
    for seed in (0, 1):
        with running_job(sweep, "estimator=all", f"seed={seed}") as folder:
            values = {"elbo": -4.0, "importance/log_likelihood": -3.0 - seed, "ais/log_likelihood": -2.5 + seed}
            folder.finish({f"test/{name}": value for name, value in values.items()})
    found = {next(iter(group.key["estimators"])): group for group in gather(sweep).groups}
    assert {name: [r.score for r in group.ranked] for name, group in found.items()} == {
        "importance": [-3.0, -4.0],
        "ais": [-1.5, -2.5],
    }


def test_bounds_are_not_ranked_among_estimates(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    finished_job(sweep, "latent_dim=3", value=-2)
    for size, numbers in ((4, {"log_likelihood": math.nan}), (5, {})):
        with running_job(sweep, f"latent_dim={size}") as folder:
            folder.finish({"test/elbo": -1.0, **{f"test/{name}": value for name, value in numbers.items()}})
    (group,) = gather(sweep).groups
    assert group.by == "log_likelihood"
    assert [(r.rank, r.score) for r in group.ranked] == [(1, -2), (2, -3), (None, None), (None, None)]
    (trace,) = figures_of(gather(sweep))["log p(x) by latent_dim"].data
    assert (list(trace.x), list(trace.y)) == ([2, 3], [-3, -2])
    words = "2 of 4 jobs have no log p(x): without a rank, and not in the plot of it."
    assert words in run_report("sweep=sweep").out
    assert words in own_part(page(sweep))
    assert [row["elbo"] for row in told(sweep)["rows"]] == [-3, -4, -1, -1]


def test_where_there_is_no_estimate_bounds_are_ranked(sweep: Path) -> None:
    for seed in (0, 1):
        with running_job(sweep, f"seed={seed}") as folder:
            folder.finish({"test/elbo": -1.0 + seed})
    (group,) = gather(sweep).groups
    assert (group.by, group.unranked) == ("elbo", "")
    assert [(r.rank, r.score) for r in group.ranked] == [(1, 0), (2, -1)]
    assert "ELBO" in figures_of(gather(sweep))


def test_binary_pixels_have_no_bits_and_their_column_is_not_there(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    run_report("sweep=sweep")
    assert told(sweep)["rows"][0]["bits_per_dim"] is None
    assert "per dim" not in own_part(page(sweep))


# settings


def entry(overrides: str = "", **flat: Any) -> Entry:
    return Entry("job", Path("job"), tuple(overrides.split()), flat=flat)


@pytest.mark.parametrize(
    ("entries", "columns"),
    [
        ([entry(seed=0), entry(seed=1)], ["seed"]),
        ([entry(a=1), entry(a=1)], []),
        ([entry("seed=0 latent_dim=2"), entry("seed=1 latent_dim=3")], ["latent_dim", "seed"]),
        ([entry(hidden_features=8, **{"trunk.hidden_features": 8}), entry(hidden_features=9)], ["hidden_features"]),
        (
            [entry(seed=i, **{"optimizer.lr": lr, "x.lr": lr}) for i, lr in enumerate((0.1, 0.1, 0.2))],
            ["optimizer.lr", "seed"],
        ),
        ([entry(**{"d._target_": "m.A"}), entry(**{"d._target_": "m.B", "d.scale": 3})], ["d"]),
        ([entry(**{"d._target_": "m.A", "d.s": i}) for i in (0, 1)] + [entry(**{"d._target_": "m.B"})], ["d", "d.s"]),
    ],
)
def test_columns_are_what_tells_the_jobs_apart(entries: list[Entry], columns: list[str]) -> None:
    assert settle(entries) == columns


def test_a_job_that_is_not_in_the_plan_goes_by_what_was_typed_for_one_alike(sweep: Path) -> None:
    typed = [(f"decoder={name}", "seed=0") for name in ("bernoulli", "gaussian")]
    plan(sweep, *typed)
    for overrides in typed:
        finished_job(sweep, *overrides, value=-1)
    finished_job(sweep, "decoder=gaussian", "seed=1", value=-1)
    found = {e.name: e.settings for e in gather(sweep).entries}
    assert found["decoder_gaussian-seed_1"] == {"decoder": "gaussian", "seed": 1}


# plots


def test_a_point_is_the_mean_over_seeds_with_their_deviation(sweep: Path) -> None:
    values = (-3.0, -4.0, -4.5)
    for seed, value in enumerate(values):
        finished_job(sweep, "latent_dim=2", f"seed={seed}", value=value)
    finished_job(sweep, "latent_dim=5", "seed=0", value=-2)
    trace, dots = figures_of(gather(sweep))["log p(x) by latent_dim"].data
    assert list(trace.x) == [2, 5]
    assert list(trace.y) == pytest.approx([statistics.mean(values), -2])
    assert list(trace.error_y.array) == pytest.approx([statistics.stdev(values), 0.01])  # the estimate's own
    assert "latent_dim_2-seed_1" in trace.text[0]
    assert sorted(dots.y) == sorted(values)


def test_there_is_a_line_for_each_decoder(sweep: Path) -> None:
    for name in ("gaussian", "gaussian_shared", "logistic"):
        for size in (2, 5):
            finished_job(sweep, f"decoder={name}", f"latent_dim={size}", value=size, pixels="unit", active=size)
    found = gather(sweep)
    figures = figures_of(found)
    assert {trace.name for trace in figures["log p(x) by latent_dim"].data} == {
        *("DiagonalGaussian PerPixelScale", "DiagonalGaussian SharedScale", "Logistic PerPixelScale"),
    }
    assert [list(trace.y) for trace in figures["Active units by latent_dim"].data] == [[2, 5]] * 4  # and all units
    slots = [trace.meta["slot"] for trace in figures["Rate and distortion"].data]
    assert slots == [trace.meta["slot"] for trace in figures["log p(x) by latent_dim"].data]


@pytest.mark.parametrize(
    ("jobs", "x", "lines"),
    [
        ([("seed=0",), ("seed=1",)], None, ()),
        ([("objective.beta=1", "decoder=bernoulli"), ("objective.beta=4", "decoder=gaussian")], "objective.beta", 1),
        ([("decoder=bernoulli",), ("decoder=gaussian",)], "decoder", ()),
        ([("batch_size=10", "latent_dim=2"), ("batch_size=20", "latent_dim=3")], "latent_dim", 1),
    ],
)
def test_x_is_the_latent_or_else_a_number_that_differs(
    jobs: list[tuple[str, ...]], x: str | None, lines: Any, sweep: Path
) -> None:
    plan(sweep, *jobs)
    axes = axes_of(gather(sweep))
    assert axes.x == x
    assert len(axes.lines) == (lines or 0)


# a sweep that is under way


def test_it_may_be_made_half_way_through_a_sweep(sweep: Path, run_report: Run) -> None:
    jobs = [(f"latent_dim={size}",) for size in range(2, 9)]
    plan(sweep, *jobs)
    finished_job(sweep, *jobs[0], value=-3)
    stopped_job(sweep, ValueError("the loss is not finite\nand more"), *jobs[1])
    stopped_job(sweep, KeyboardInterrupt(), *jobs[2])
    killed_job(sweep, *jobs[3])
    (finished_job(sweep, *jobs[4], value=-1) / "metrics.json").write_text('{"test/elbo": "')
    with running_job(sweep, *jobs[5]):
        outcome = run_report("sweep=sweep")
    found = told(sweep)
    assert found["jobs"] == dict.fromkeys(STATES, 1)
    states = {row["state"]: row for row in found["rows"]}
    assert states["failed"]["error"] == "ValueError: the loss is not finite"
    assert states["killed"]["error"] == "its process was killed"
    assert states["damaged"]["error"].startswith("metrics.json is damaged")
    assert states["waiting"]["setting:latent_dim"] == 8
    html = own_part(page(sweep))
    assert "Traceback (most recent call last)" in html
    assert "latent_dim_3/train.log" in html
    assert "1 done, 1 running, 1 waiting" in outcome.out
    assert "written: sweep/report.html" in outcome.out


@pytest.mark.parametrize("state", ["running", "interrupted", "failed", "killed"])
def test_numbers_from_before_a_job_went_on_are_not_ranked(state: str, sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    former = finished_job(sweep, "latent_dim=3", value=-2)
    status = json.loads((former / "status.json").read_text())
    (former / "status.json").write_text(json.dumps(status | {"state": "running" if state == "killed" else state}))
    if state == "running":
        (former / ".lock").unlink()  # as of another machine
    outcome = run_report("sweep=sweep")
    rows = {row["job"]: row for row in told(sweep)["rows"]}
    row = rows[former.name]
    assert (row["state"], row["rank"], row["log_likelihood"]) == (state, None, None)
    assert row["note"] == f"metrics.json left out: only jobs that are done count, this is {state}"
    assert row["note"] in own_part(page(sweep))
    assert f"- {former.name}: {row['note']}" in outcome.out
    assert rows["latent_dim_2"]["rank"] == 1


@pytest.mark.parametrize("weights", ["last", "best"])
@pytest.mark.parametrize("name", ["steps", "samples_seen", None])
def test_an_evaluation_counts_if_it_is_of_the_weights_of_the_metrics(
    weights: str, name: str | None, sweep: Path, run_report: Run
) -> None:
    job = finished_job(sweep, "latent_dim=2", value=-3)
    counts = {"steps": 20, "samples_seen": 2000, "best/steps": 10, "best/samples_seen": 1000}
    known = json.loads((job / "metrics.json").read_text())
    (job / "metrics.json").write_text(json.dumps(known | counts))
    key = gather(sweep).groups[0].key | {"dequantizations": 2}
    own = {each: counts[("best/" if weights == "best" else "") + each] for each in ("steps", "samples_seen")}
    own |= {} if name is None else {name: own[name] + 1}
    stored = {"test/log_likelihood": -2.5, "comparability": key, "checkpoint": weights, **own}
    (job / "evaluation.json").write_text(json.dumps(stored))
    run_report("sweep=sweep")
    rows = told(sweep)["rows"]
    assert [row["source"] for row in rows] == ["metrics.json"] + (["evaluation.json"] if name is None else [])
    left_out = "evaluation.json left out: it is of other weights than metrics.json; evaluate again"
    assert {row["note"] for row in rows} == {None if name is None else left_out}
    assert (left_out in own_part(page(sweep))) == (name is not None)


def test_no_job_need_have_begun(sweep: Path, run_report: Run) -> None:
    plan(sweep, ("latent_dim=2",), ("latent_dim=3",))
    run_report("sweep=sweep")
    assert told(sweep)["jobs"] == {"waiting": 2}
    assert "Without numbers" in own_part(page(sweep))


def test_typed_again_it_tells_of_what_is_new(sweep: Path, run_report: Run) -> None:
    plan(sweep, ("latent_dim=2",))
    run_report("sweep=sweep")
    finished_job(sweep, "latent_dim=2", value=-3)
    run_report("sweep=sweep")
    assert told(sweep)["jobs"] == {"done": 1}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("config.yaml", "a: &x 1", "anchor"),
        ("config.yaml", "format_version: 7", "format_version"),
        ("status.json", '{"state": ["done"]}', "has state ['done']"),
        ("status.json", "[]", "not a mapping"),
        ("record.json", "{}", "'data'"),
        ("record.json", '{"data": {"pixels": "binary", "sizes": 3}}', "another shape"),
        ("metrics.json", '{"test/elbo": "high"}', "expected a number"),
        ("evaluation.json", '{"comparability": {"split": "test", "estimators": 3}, "checkpoint": 1}', "another shape"),
        ("evaluation.json", '{"test/elbo": 1}', "comparability"),
    ],
)
def test_a_damaged_job_is_told_of_and_costs_no_other_anything(
    file: str, content: str, reason: str, sweep: Path, run_report: Run
) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    (finished_job(sweep, "latent_dim=3", value=-2) / file).write_text(content)
    run_report("sweep=sweep")
    rows = {row["job"]: row for row in told(sweep)["rows"]}
    assert rows["latent_dim_2"]["log_likelihood"] == -3
    assert rows["latent_dim_3"]["state"] == "damaged"
    assert reason in rows["latent_dim_3"]["error"]


def test_an_estimator_that_is_not_ours_is_not_imported(sweep: Path, run_report: Run) -> None:
    file = finished_job(sweep, "latent_dim=2", value=-3) / "config.yaml"
    text = file.read_text().replace("vaelab.estimators.ImportanceSampling", "mypkg.Evil")
    file.write_text(text)
    run_report("sweep=sweep")
    assert told(sweep)["groups"][0]["comparability"]["estimators"] == {
        "Evil": {"class": "mypkg.Evil", "num_samples": 100}
    }
    file.write_text(text.replace("mypkg.Evil", "vaelab.files.write_atomically"))
    run_report("sweep=sweep")
    assert "none of the public names" in told(sweep)["rows"][0]["error"]


# strings of strangers


def test_what_a_stranger_wrote_is_escaped(sweep: Path, run_report: Run) -> None:
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


def test_texts_in_plots_are_no_mark_up(sweep: Path) -> None:
    found = []
    for size in (2, 3):
        finished_job(sweep, f"latent_dim={size}", value=-3).rename(sweep / f'{size}<a href="http:evil">')
        found.append(size)
    for figure in figures_of(gather(sweep)).values():
        assert "<a" not in figure.to_json()
        assert "<a" not in str(figure.to_plotly_json())


def test_secrets_and_the_home_folder_are_in_no_file(
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


def test_a_file_that_is_no_picture_is_left_out(sweep: Path, run_report: Run) -> None:
    figures = finished_job(sweep, "latent_dim=2", value=-3) / "figures"
    (figures / "samples.png").write_bytes(b"GIF89a")
    (figures / "manifold.png").unlink()
    (figures / "manifold.png").symlink_to(figures / "reconstructions.png")
    Image.new("1", (pictures.SIDE_LIMIT + 1, 1)).save(figures / "wide.png")
    run_report("sweep=sweep")
    assert re.findall(r'data-kind="(\w+)"', own_part(page(sweep))) == ["reconstructions"]


def test_a_formula_in_a_cell_of_the_csv_is_a_text(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3).rename(sweep / "=cmd()")
    run_report("sweep=sweep")
    (row,) = csv.DictReader((sweep / "report.csv").open())
    assert row["job"] == "'=cmd()"
    assert row["log_likelihood"] == "-3"


# what is written


def cells(html: str) -> list[list[str]]:
    """The rows of the table as the page has them: its cells' values."""
    table = html[html.index("<table") : html.index("</table>")]
    rows = re.findall(r"<tr data-state.*?</tr>", table, flags=re.DOTALL)
    return [[unescape(value) for value in re.findall(r'<td[^>]*data-value="([^"]*)"', row)] for row in rows]


def test_page_csv_and_json_say_the_same(sweep: Path, run_report: Run) -> None:
    sizes = [(f"latent_dim={size}", f"seed={seed}") for size in (2, 5) for seed in (0, 1, 2)]
    plan(sweep, *((f"decoder={decoder}", *more) for decoder in ("bernoulli", "gaussian") for more in sizes))
    grid(sweep)
    run_report("sweep=sweep")
    rows = told(sweep)["rows"]
    with (sweep / "report.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    columns = [
        *("rank", "setting:decoder", "setting:latent_dim", "setting:seed", "log_likelihood", "standard_error", "elbo"),
        *("reconstruction", "kl", "active_units", "bits_per_dim", "pareto_k_bad", "seconds", "state", "job"),
    ]
    numbered = [row for row in table if row["rank"]]
    assert cells(page(sweep))[: len(numbered)] == [[row[column] for column in columns] for row in numbered]
    assert len(cells(page(sweep))) == len(table) == 12


def test_the_page_loads_nothing(sweep: Path, run_report: Run) -> None:
    grid(sweep)
    run_report("sweep=sweep")
    html = page(sweep)
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=\"(?!data:)", html)


def test_of_too_many_jobs_the_best_of_each_setting_is_pictured(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid(sweep, seeds=(0, 1))
    monkeypatch.setattr(pictures, "MOST_JOBS", 6)
    found = gather(sweep)
    shown = pictures.pictures_of(found)
    assert {p.ranked.entry.settings["seed"] for p in shown.shown} == {1}  # a tenth better
    assert "Pictures of 4 of 8 jobs" in shown.left_out
    assert shown.left_out in unescape(render(found, shown))
    monkeypatch.setattr(pictures, "MOST_BYTES", len(shown.shown[0].uri) * 2)
    assert len({p.ranked.entry.name for p in pictures.pictures_of(found).shown}) < 4


def test_versions_that_differ_are_told(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    file = finished_job(sweep, "latent_dim=3", value=-2) / "record.json"
    stored = json.loads(file.read_text())
    stored["environment"]["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(stored))
    run_report("sweep=sweep")
    assert told(sweep)["environments"]["torch"]["1.0"] == 1
    assert "1.0 (1 jobs): jobs differ" in re.sub(r"\s+", " ", own_part(page(sweep)))


def test_w_and_b_gets_a_run_of_the_group(sweep: Path, run_report: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {}

    class Experiment:
        summary: ClassVar[dict[str, Any]] = {}

        def finish(self, exit_code: int) -> None:
            calls["finished"] = exit_code

    class Logger(WandbLogger):
        experiment = Experiment()  # type: ignore[assignment]

        def __init__(self) -> None:
            self._save_dir = str(sweep)

        def log_table(self, key: str, columns: list[str], data: list[Any]) -> None:  # type: ignore[override]
            calls["table"] = (key, columns, data)

    def wandb(run: Any, group: str, **kwargs: Any) -> Any:
        calls["made"] = (group, kwargs)
        return Logger()

    monkeypatch.setattr("vaelab.runs.tracking.loggers.wandb", wandb)
    finished_job(sweep, "latent_dim=2", value=-3)
    run_report("sweep=sweep")
    assert calls == {}  # none of its runs is known to W&B
    finished_job(sweep, "latent_dim=3", "logger=wandb", "logger.project=mine", value=-2)
    run_report("sweep=sweep", "wandb_mode=disabled")
    assert calls == {}
    run_report("sweep=sweep")
    group, kwargs = calls["made"]
    assert (group, kwargs["job_type"], kwargs["mode"], kwargs["project"]) == ("sweep", "report", "offline", "mine")
    assert len(calls["table"][2]) == 2
    assert Experiment.summary["best.group_1.log_likelihood"] == -2
    assert calls["finished"] == 0


def test_w_and_b_takes_the_table_offline(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", "logger=wandb", value=-3)
    finished_job(sweep, "latent_dim=3", "logger=wandb", value=-2)
    run_report("sweep=sweep")
    (run,) = (sweep / "wandb").glob("offline-run-*")
    assert list(run.rglob("*.table.json"))
    run_report("sweep=sweep")  # the folder of W&B is no job
    assert told(sweep)["jobs"] == {"done": 2}


# what is refused


@pytest.mark.parametrize(
    ("arguments", "words", "code"),
    [
        (["sweep=nowhere"], "nowhere is not a folder; there are sweep: give sweep=logs/sweeps/NAME", FAILURE),
        (["sweep=sweep"], "sweep holds no run folder, and no plan of a sweep", FAILURE),
        (["sweep=sweep", "wandb_mode=loud"], "wandb_mode must be offline, online or disabled", USAGE),
        ([], "sweep", USAGE),
    ],
)
def test_what_cannot_be_reported_on_is_one_line(
    arguments: list[str], words: str, code: int, sweep: Path, run_report: Run
) -> None:
    outcome = run_report(*arguments, code=code)
    assert words in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not list(sweep.iterdir())


def test_a_run_folder_is_no_sweep(sweep: Path, run_report: Run) -> None:
    path = finished_job(sweep, "latent_dim=2", value=-3)
    outcome = run_report(f"sweep=sweep/{path.name}", code=FAILURE)
    assert "is a run folder, expected a sweep's: give sweep=sweep" in outcome.err


@pytest.mark.parametrize("jobs", [{"..": []}, {"": []}, {"a/b": []}, {"a": "seed=0"}, ["a"]])
def test_a_plan_that_leads_elsewhere_is_refused(jobs: Any, sweep: Path, run_report: Run) -> None:
    (sweep / "sweep.json").write_text(json.dumps({"format_version": 1, "jobs": jobs}))
    assert "is not the plan of a sweep" in run_report("sweep=sweep", code=FAILURE).err
