"""Groups of results that can be compared, and the ranking of the settings in each."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import Run
from tests.helpers.reports import own_part, page, plots, stored_report
from tests.helpers.sweep_folders import SHA256, finished_job, lost_job, metrics, plan, running_job, stopped_job
from vaelab.reporting.gathering import gather
from vaelab.reporting.groups import Setting
from vaelab.sweeps.folder import SweepFolder


def settings(sweep: Path) -> list[Setting]:
    (group,) = gather(sweep).groups
    return group.settings


# groups


def test_masses_and_densities_share_no_ranking_and_no_plot(gridded: Path) -> None:
    report = gather(gridded)
    for i, (group, positive) in enumerate(zip(report.groups, (False, True), strict=True)):
        assert [ranked.rank for ranked in group.ranked] == [1, 1, 2, 2]
        assert [setting.values["latent_dim"] for setting in group.settings] == [5, 2]
        scores = [setting.score for setting in group.settings]
        plotted = [y for trace in plots(report, i)["log p(x) by latent_dim"]["data"] for y in trace["y"]]
        assert {value > 0 for value in (*scores, *plotted)} == {positive}
        for comparison in report.tables[group.number].comparisons:
            assert comparison.better in group.settings
            assert comparison.worse in group.settings


@pytest.mark.parametrize("more", [{"seed": 1}, {"sha256": dict.fromkeys(SHA256, "0" * 64)}, {"num_levels": 256}])
def test_other_data_are_another_group(more: dict[str, Any], sweep: Path) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    with running_job(sweep, "latent_dim=3", **more) as folder:
        folder.finish({"test/elbo": -2.0, "val/elbo": -2.0})
    report = gather(sweep)
    assert [len(group.settings) for group in report.groups] == [1, 1]
    assert [table.comparisons for table in report.tables.values()] == [[], []]


def test_each_estimator_is_a_group_of_its_own(sweep: Path) -> None:
    for seed in (0, 1):
        with running_job(sweep, "estimator=all", f"seed={seed}") as folder:
            values = {"elbo": -4.0, "importance/log_likelihood": -3.0 - seed, "ais/log_likelihood": -2.5 + seed}
            folder.finish({f"test/{name}": value for name, value in values.items()} | {"val/elbo": -4.0})
    finished_job(sweep, "estimator=importance", "estimator.num_samples=20", value=-3)
    report = gather(sweep)
    scores = {group.title.split(" · ")[-1].split(" (")[0]: [r.score for r in group.ranked] for group in report.groups}
    assert scores == {"importance K=100": [-3.0, -4.0], "ais": [-2.5, -1.5], "importance K=20": [-3.0]}
    assert "These 3 groups differ in estimators (importance K=100, ais" in report.as_json()


# the ranking


def test_validation_ranks_the_settings_and_not_the_test(sweep: Path) -> None:
    for size, validation, value in ((2, -20, -9), (3, -10, -12), (5, -30, -7)):
        finished_job(sweep, f"latent_dim={size}", value=value, validation=validation)
    assert [(s.values, s.validation, s.score) for s in settings(sweep)] == [
        ({"latent_dim": 3}, -10, -12),
        ({"latent_dim": 2}, -20, -9),
        ({"latent_dim": 5}, -30, -7),
    ]


def test_a_setting_has_the_mean_and_standard_error_of_its_seeds(sweep: Path) -> None:
    values, validations = (-3.0, -4.0, -4.5), (-5.0, -6.5, -5.0)
    for seed, (value, validation) in enumerate(zip(values, validations, strict=True)):
        finished_job(sweep, f"seed={seed}", value=value, validation=validation, kl=seed)
    (setting,) = settings(sweep)
    assert setting.score == pytest.approx(statistics.mean(values))
    assert setting.error == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    assert setting.validation == pytest.approx(-5.5)
    assert setting.mean("rate") == pytest.approx(1)
    assert setting.mean("log_likelihood_bits_per_dim") is None


def test_a_single_seed_has_no_standard_error(sweep: Path) -> None:
    finished_job(sweep, value=-3)
    assert settings(sweep)[0].error is None


def test_failed_seeds_are_counted(sweep: Path) -> None:
    finished_job(sweep, "latent_dim=2", "seed=0", value=-3)
    finished_job(sweep, "latent_dim=3", "seed=0", value=-4)
    for seed in (1, 2):
        stopped_job(sweep, ValueError("it broke"), "latent_dim=2", f"seed={seed}")
    assert [setting.failed for setting in settings(sweep)] == [2, 0]


def test_a_seed_that_failed_before_it_stored_its_configuration_is_counted(sweep: Path) -> None:
    plan(sweep, *((f"latent_dim={size}", "seed=0", "runtime.devices=1") for size in (2, 3)))
    jobs = [sweep / name for name in SweepFolder(sweep).plan]
    for size, job in zip((2, 3), jobs, strict=True):
        finished_job(sweep, f"latent_dim={size}", "seed=0", value=-size).rename(job)
    lost_job(sweep, "latent_dim=2", "seed=1")
    lost_job(sweep, "latent_dim=4", "seed=0")
    assert [(setting.values, setting.failed) for setting in settings(sweep)] == [
        ({"latent_dim": 2}, 1),
        ({"latent_dim": 3}, 0),
    ]


def test_budgets_and_choices_are_other_settings(sweep: Path) -> None:
    finished_job(sweep, "trainer.max_epochs=1", value=-3)
    finished_job(sweep, "trainer.max_epochs=2", value=-2)
    assert [setting.label for setting in settings(sweep)] == ["trainer.max_epochs=2", "trainer.max_epochs=1"]


@pytest.mark.slow
def test_a_job_without_an_estimate_or_validation_has_no_rank(sweep: Path, run_report: Run) -> None:
    finished_job(sweep, "latent_dim=2", value=-3)
    finished_job(sweep, "latent_dim=3", value=-2)
    for size, more in ((4, {"test/log_likelihood": math.nan, "val/elbo": -1.0}), (5, {"test/log_likelihood": -1.0})):
        with running_job(sweep, f"latent_dim={size}") as folder:
            folder.finish({"test/elbo": -1.0, **more})
    report = gather(sweep)
    (group,) = report.groups
    assert group.by == "log_likelihood"
    assert [(r.rank, r.score) for r in group.ranked] == [(1, -2), (2, -3), (None, None), (None, -1)]
    (trace,) = plots(report)["log p(x) by latent_dim"]["data"]
    assert (trace["x"], trace["y"]) == ([2, 3], [-3, -2])
    sentence = "2 of 4 jobs have no log p(x) or no validation, and so neither a rank nor a point in its plot."
    assert sentence in run_report("sweep=sweep").out
    assert sentence in own_part(page(sweep))
    assert "per dim" not in own_part(page(sweep))  # of binary pixels
    assert [row["elbo"] for row in stored_report(sweep)["rows"]] == [-3, -4, -1, -1]


def test_without_any_estimate_the_bound_is_the_score(sweep: Path) -> None:
    for size in (2, 3):
        with running_job(sweep, f"latent_dim={size}") as folder:
            folder.finish({"test/elbo": -1.0 + size, "val/elbo": 1.0 * size})
    report = gather(sweep)
    (group,) = report.groups
    assert (group.by, group.unranked) == ("elbo", "")
    assert [(r.rank, r.score) for r in group.ranked] == [(1, 2), (2, 1)]
    assert "ELBO by latent_dim" in plots(report)


def test_a_mass_is_ranked_by_the_density_less_the_logs_of_levels(sweep: Path) -> None:
    job = finished_job(sweep, "decoder=gaussian", value=20.0, pixels="unit", validation=19.0)
    key = json.loads((job / "record.json").read_text())["comparability"] | {"pixels": "levels", "measure": "mass"}
    stored = metrics(-150.0) | {"comparability": key, "checkpoint": "last"}
    (job / "evaluations" / "mass.json").write_text(json.dumps(stored))
    density, mass = gather(sweep).groups
    assert density.settings[0].validation == 19
    assert mass.settings[0].validation == pytest.approx(19 - 64 * math.log(17))
