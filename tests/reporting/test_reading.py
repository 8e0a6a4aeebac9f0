"""What a report reads of jobs in any state, and of what damaged or old files it says so."""

import json
from pathlib import Path

import pytest

from tests.helpers.commands import Run
from tests.helpers.reports import own_part, page, stored_report
from tests.helpers.sweep_folders import finished_job, killed_job, plan, running_job, stopped_job
from vaelab.reporting.gathering import gather
from vaelab.reporting.values import STATES


@pytest.mark.slow
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
    (job / "evaluations" / "another.json").write_text(json.dumps(evaluation))
    rows = gather(sweep).rows
    found = ["evaluations/another.json"] if differing is None else []
    assert [row["source"] for row in rows] == ["metrics.json", *found]
    note = "1 of 1 evaluations left out, because they have other weights than metrics.json: evaluate again"
    assert {row["note"] for row in rows} == {None if differing is None else note}


DAMAGE = [  # file, content, part of the reason
    ("config.yaml", "a: &x 1", "anchor"),
    ("status.json", '{"state": ["done"]}', "has state ['done']"),
    ("record.json", '{"comparability": {"data": "digits"}}', "unexpected structure"),
    ("record.json", '{"comparability": {"data": ["digits"]}}', "has data=['digits']"),
    ("metrics.json", '{"test/elbo": "high"}', "expected a number"),
]
NOTED = [
    ("evaluations/a.json", '{"checkpoint": "last", "steps": 20, "samples_seen": 2000}', "evaluations/a.json ("),
    ("evaluations/a.json", "[1, 2]", "evaluations/a.json is damaged (not a mapping)"),
    ("curves.csv", "samples_seen,steps,val/elbo\n1,2\n", "curves.csv is damaged"),
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


@pytest.mark.parametrize(("file", "content", "reason"), NOTED)
def test_a_damaged_evaluation_or_curve_is_a_note(file: str, content: str, reason: str, sweep: Path) -> None:
    job = finished_job(sweep, value=-3)
    key = json.loads((job / "record.json").read_text())["comparability"] | {"dequantizations": 2}
    good = {"test/log_likelihood": -2.5, "comparability": key, "checkpoint": "last", "steps": 20, "samples_seen": 2000}
    (job / "evaluations" / "good.json").write_text(json.dumps(good))
    (job / file).write_text(content)
    rows = gather(sweep).rows
    assert [(row["state"], row["log_likelihood"], row["error"]) for row in rows] == [
        ("done", v, None) for v in (-3, -2.5)
    ]
    assert reason in rows[0]["note"]


def test_an_evaluation_of_other_weights_under_the_same_key_is_noted(sweep: Path) -> None:
    job = finished_job(sweep, value=-3)
    counts = {"steps": 10, "samples_seen": 1000}
    metrics = json.loads((job / "metrics.json").read_text())
    (job / "metrics.json").write_text(json.dumps(metrics | {f"best/{name}": n for name, n in counts.items()}))
    key = json.loads((job / "record.json").read_text())["comparability"]
    best = {"test/log_likelihood": -2.5, "comparability": key, "checkpoint": "best", **counts}
    (job / "evaluations" / "best.json").write_text(json.dumps(best))
    (row,) = gather(sweep).rows
    assert row["log_likelihood"] == -3
    assert row["note"] == (
        "evaluations/best.json left out, because the report already has the last weights of this job under the same "
        "key, from metrics.json, and a job is ranked once"
    )
