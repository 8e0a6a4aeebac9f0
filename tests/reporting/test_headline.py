"""What a report says of the best setting of a group, and of its differences from the others."""

from pathlib import Path

import pytest
import torch
from scipy import stats

from tests.helpers.commands import Run
from tests.helpers.reports import own_part, page, stored_report
from tests.helpers.sweep_folders import EXAMPLES, finished_job, plan, running_job, scores_around, stopped_job
from vaelab.reporting.gathering import Report, gather
from vaelab.runs.evaluating.cache import TEST


def said(sweep: Path) -> tuple[Report, list[str]]:
    report = gather(sweep)
    (sentences,) = report.headlines.values()
    return report, list(sentences)


def seeded(sweep: Path, size: int, *values: float, **more: float) -> None:
    for seed, value in enumerate(values):
        finished_job(sweep, f"latent_dim={size}", f"seed={seed}", value=value, **more)


def test_the_first_sentence_can_be_quoted(sweep: Path) -> None:
    seeded(sweep, 5, -3.0, -3.2, -3.1)
    seeded(sweep, 2, -4.0, -4.1, -4.2)
    report, (first, *others) = said(sweep)
    width = report.tables[1].comparisons[0].difference.half_width  # type: ignore[union-attr]
    assert first == (
        "the best of 2 settings by validation is latent_dim=5: its log p(x) on the test split is -3.10 ± 0.06 nats per "
        f"example (mean of 3 seeds ± standard error), better than the next one, latent_dim=2, by 1.00 ± {width:.2f} "
        "(95 % interval)"
    )
    assert len(others) == 1  # what the number is
    assert others[0].startswith("its score is a lower bound of log p(x) with K = 100; the proposal is poor for")


@pytest.mark.slow
def test_what_all_settings_share_is_said_once(gridded: Path) -> None:
    report = gather(gridded)
    for first, *others in report.headlines.values():
        assert first.count("decoder=") == 1
        assert "the next one, latent_dim=2, " in first
        assert "decoder=" not in " ".join(others)


@pytest.mark.slow
def test_the_page_says_that_another_is_better_on_the_test(sweep: Path, run_report: Run) -> None:
    seeded(sweep, 2, -9.0, -9.1, -9.2, validation=-20.0)
    seeded(sweep, 3, -7.0, -7.1, -7.2, validation=-30.0)
    printed = run_report("sweep=sweep").out
    _, (first, second, *_) = said(sweep)
    assert first.startswith("the best of 2 settings by validation is latent_dim=2: ")
    assert ", worse than the next one, latent_dim=3, by 2.00 ± " in first
    assert second.startswith("keep to the choice of validation")
    for text in (own_part(page(sweep)), printed):
        assert first[1:] in text
        assert second[1:] in text
    assert stored_report(sweep)["groups"][0]["headline"][0] == first


def test_settings_that_cannot_be_told_apart_are_said_with_advice(sweep: Path) -> None:
    seeded(sweep, 2, -3.0, -3.5)
    seeded(sweep, 3, -3.2, -3.7)
    report, (first, advice, *_) = said(sweep)
    (found,) = report.tables[1].comparisons
    assert first.endswith(
        f"; the next one, latent_dim=3, is {found.size} lower (95 % interval), so they cannot be told apart"
    )
    assert advice == f"as for latent_dim=3, {found.advice}"
    assert "seeds of each" in advice
    assert "would tell a difference of 0.2 nats" in advice


def test_single_seeds_compare_models_and_not_settings(sweep: Path) -> None:
    seeded(sweep, 2, -3.0)
    seeded(sweep, 3, -4.0)
    _, (first, advice, *_) = said(sweep)
    assert "is -3.00 nats per example (one seed), better than" in first
    assert first.endswith("(95 % interval over examples, not over seeds)")
    assert "this compares these trained models, not their settings: train each setting with two or more seeds" in advice


def test_the_others_are_counted_and_named(sweep: Path) -> None:
    for size, value, validation in ((2, -3.0, 0), (3, -4.0, -1), (4, -2.0, -2), (5, -3.0, -3)):
        seeded(sweep, size, value, value - 0.01, validation=validation)
    report, sentences = said(sweep)
    sizes = [comparison.size for comparison in report.tables[1].comparisons]
    direction = report.tables[1].comparisons[2].direction
    assert sentences[1] == (
        f"on the test split it is better than 1 of the 3 others, is worse than latent_dim=4 ({sizes[1]} higher), and "
        f"cannot be told apart from latent_dim=5 ({sizes[2]} {direction}); each 95 % interval holds for its own pair"
    )


def test_the_sentence_and_the_table_agree(sweep: Path) -> None:
    for seed, bad in enumerate((0.06, 0.1)):
        finished_job(sweep, "latent_dim=2", f"seed={seed}", value=-3.5 + seed / 2, validation=0, bad=bad)
    seeded(sweep, 3, -3.2, -2.7)
    report, sentences = said(sweep)
    assert f"latent_dim=3, is {report.tables[1].comparisons[0].size} higher (" in sentences[0]
    assert report.tables[1].rows[1].difference.startswith("+")
    assert "the proposal is poor for 8% of the examples" in " ".join(sentences)
    assert report.groups[0].settings[0].mean("pareto_k_bad") == pytest.approx(0.08)


def test_a_difference_is_that_of_the_paired_scores(sweep: Path) -> None:
    noise = torch.randn(EXAMPLES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hard = scores_around(-50.0, "hard")
    finished_job(sweep, "latent_dim=2", value=-50.0, scores=hard)
    finished_job(sweep, "latent_dim=3", value=-51.0, scores=hard - 1 + noise)
    (found,) = said(sweep)[0].tables[1].comparisons
    interval = stats.ttest_1samp((1 - noise).numpy(), 0.0).confidence_interval(0.95)
    assert found.difference is not None
    assert found.difference.mean == pytest.approx(1 - noise.mean().item())
    assert found.difference.half_width == pytest.approx((interval.high - interval.low) / 2)


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_missing_values_are_said(content: bytes | None, sweep: Path) -> None:
    seeded(sweep, 2, -3.0)
    seeded(sweep, 3, -4.0)
    file = sweep / "latent_dim_3-seed_0" / "evaluations" / f"{TEST}.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    _, (first, second, *_) = said(sweep)
    assert first.endswith("; it is not compared with the next one, latent_dim=3")
    assert second.startswith("what is missing for a comparison: ")
    assert ("has no values of single examples" if content is None else "has no values of log_likelihood") in second


def test_a_poor_proposal_gives_a_lower_bound_without_an_error(sweep: Path, run_report: Run) -> None:
    seeded(sweep, 2, -3.0, -3.1, bad=0.9)
    seeded(sweep, 3, -4.0, -4.1)
    out = run_report("sweep=sweep").out
    _, (first, *others) = said(sweep)
    assert (
        ": its lower bound of log p(x) on the test split is -3.05 nats per example (mean of 2 seeds), better than"
        in first
    )
    assert "a difference of lower bounds is one of log p(x) only if the bounds are equally tight" in others
    assert "bound" in out.split("latent_dim=2")[0]


def test_the_best_number_says_what_it_is(sweep: Path, run_report: Run) -> None:
    numbers = {"log_likelihood": -105.49, "standard_error": 0.0054, "bias": -0.31, "pareto_k_bad": 0.93}
    numbers |= {"num_samples": 100, "elbo": -107}
    with running_job(sweep, "latent_dim=2") as folder:
        folder.finish({f"test/{name}": value for name, value in numbers.items()} | {"val/elbo": -107.0})
    printed = run_report("sweep=sweep").out
    words = "its score is a lower bound of log p(x) with K = 100; the proposal is poor for 93% of the examples "
    words += "(Pareto k above 0.50); too low by at least 0.31 nats, and its samples cannot tell by how much more: "
    words += "log p(x) is at least -105.50"
    assert f"- group 1: {words}" in printed
    assert words[1:] in own_part(page(sweep))
    assert stored_report(sweep)["groups"][0]["headline"][-1] == words


def test_jobs_without_results_are_said(sweep: Path) -> None:
    jobs = [(f"latent_dim={size}", f"seed={seed}") for size in (2, 3, 4) for seed in (0, 1)]
    plan(sweep, *jobs)
    finished_job(sweep, *jobs[0], value=-3)
    for overrides in (jobs[1], jobs[2], jobs[3]):
        stopped_job(sweep, ValueError("it broke"), *overrides)
    report, sentences = said(sweep)
    assert report.cautions == [
        "2 of 6 jobs are not done yet, so the ranking may change",
        "all jobs of these settings failed: latent_dim=3",
    ]
    assert sentences[0].startswith("the only setting with a result is latent_dim=2: ")
    assert sentences[-1] == "seeds that failed, and are missing from the means: 1 of latent_dim=2"
