"""Which settings of a sweep are columns, and which cannot be told apart."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import Run
from tests.helpers.reports import page
from tests.helpers.sweep_folders import finished_job, plan
from vaelab.reporting.gathering import gather
from vaelab.reporting.reading import Entry
from vaelab.reporting.settings import assign_settings, confounded
from vaelab.sweeps.folder import SweepFolder


def entry(overrides: str = "", **flat: Any) -> Entry:
    return Entry("job", Path("job"), tuple(overrides.split()), flat=flat)


@pytest.mark.parametrize(
    ("entries", "columns"),
    [
        ([entry(a=1), entry(a=1)], []),
        ([entry("seed=0 latent_dim=2"), entry("seed=1 latent_dim=3")], ["latent_dim", "seed"]),
        (
            [entry(hidden_features=8, **{"n.hidden": 8}), entry(hidden_features=9, **{"n.hidden": 9})],
            ["hidden_features"],
        ),
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


@pytest.mark.parametrize(
    ("rows", "sentences"),
    [
        ([("a", 1, 7), ("b", 2, 7)], ["y only changes where x does"]),
        ([("a", 1, 7), ("a", 2, 8), ("b", 3, 8), ("b", 4, 7)], ["x only changes where y does"]),
        ([("a", 1, 7), ("a", 2, 8), ("b", 1, 7), ("b", 2, 8)], ["z only changes where y does"]),
        ([("a", 1, 7), ("a", 2, 7), ("b", 1, 7), ("b", 2, 7)], []),
        ([("a", 0.11, 7), ("b", 0.12, 7), ("a", 0.13, 7), ("b", 0.14, 7)], []),  # numbers that a search drew
        ([("a", 0.3, 0.5), ("a", 0.1, 0.2), ("a", 0.2, 0.9)], []),
        ([("a", 0.3, 0.5), ("a", 0.1, 0.2), ("a", 0.2, 0.3)], ["z only changes where y does"]),
    ],
)
def test_settings_that_change_together_are_confounded(rows: list[tuple[Any, ...]], sentences: list[str]) -> None:
    entries = [entry(x=x, y=y, z=z, seed=seed) for x, y, z in rows for seed in (0, 1)]
    found = confounded(entries, assign_settings(entries))
    why = "so a difference between these jobs may come from either"
    assert found == [f"{sentence}, {why}" for sentence in sentences]


def test_a_part_and_its_own_value_are_not_confounded() -> None:
    entries = [entry(**{"d._target_": "m.A", "d.s": i}) for i in (0, 1)] + [entry(**{"d._target_": "m.B"})]
    assert confounded(entries, assign_settings(entries)) == []


def test_a_choice_and_a_budget_are_columns_even_if_confounded(sweep: Path) -> None:
    for decoder, epochs in (("gaussian", 1), ("logistic", 2)):
        finished_job(sweep, f"decoder={decoder}", f"trainer.max_epochs={epochs}", value=1.0, pixels="unit")
    report = gather(sweep)
    assert report.columns == ["decoder", "trainer.max_epochs"]
    assert report.cautions == [
        "trainer.max_epochs only changes where decoder does, so a difference between these jobs may come from either"
    ]
