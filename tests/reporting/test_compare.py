"""`python -m vaelab.compare`: which runs or settings are better, and what may not be compared."""

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from tests.helpers.commands import FAILURE, USAGE, Run, assert_one_line, run_main
from tests.helpers.sweep_folders import (
    EXAMPLES,
    finished_job,
    keep_values,
    killed_job,
    lost_job,
    metrics,
    plan,
    running_job,
)
from vaelab import compare
from vaelab.evaluation.paired import difference

HOSTILE = "\x1b[2Jdigits\n<script>alert(1)</script>|`"


@pytest.fixture
def run_compare(tmp_path: Path) -> Run:
    """`run_compare("runs=[a,b]", code=0)`: run vaelab.compare in `tmp_path`."""
    return partial(run_main, compare.main, tmp_path)


@pytest.fixture(scope="module")
def three_latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("three_latents")
    for size, values in ((2, (-30.0, -30.1)), (5, (-28.0, -28.1)), (9, (-27.9, -28.15))):
        for seed, value in enumerate(values):
            finished_job(path, f"latent_dim={size}", f"seed={seed}", value=value)
    return path


@pytest.fixture
def sweep(three_latents: Path, tmp_path: Path) -> Path:
    """Three latents with two seeds; the largest two cannot be told apart."""
    return Path(shutil.copytree(three_latents, tmp_path / "sweep"))


def comparisons(cwd: Path, metric: str = "log_likelihood") -> list[dict[str, Any]]:
    """Return the comparisons by a metric that the last command wrote."""
    groups = json.loads((cwd / "comparison.json").read_text())["groups"]
    return [each for group in groups for each in group["comparisons"] if each["metric"] == metric]


def values(sweep: Path, pattern: str, name: str = "log_likelihood") -> list[Any]:
    files = sorted(sweep.glob(f"{pattern}/evaluations/test-last.safetensors"))
    return [load_file(file)[name].astype(float) for file in files]


# what is compared


def test_two_seeds_of_the_best_setting_may_be_compared_with_another(sweep: Path, run_compare: Run) -> None:
    names = ("latent_dim_2-seed_0", "latent_dim_5-seed_0", "latent_dim_5-seed_1")
    folders = [str(folder) for name in names for folder in sweep.glob(f"{name}*")]
    assert len(folders) == 3
    run_compare(f"runs=[{','.join(folders)}]")
    found = comparisons(sweep.parent)
    assert len(found) == 3
    assert len({each[side] for each in found for side in ("setting", "against")}) == 3


def test_settings_of_a_sweep_are_compared_in_pairs(sweep: Path, run_compare: Run) -> None:
    printed = run_compare("runs=sweep").out
    found = comparisons(sweep.parent)
    assert [(each["setting"], each["against"]) for each in found] == [
        ("latent_dim=9", "latent_dim=5"),
        ("latent_dim=9", "latent_dim=2"),
        ("latent_dim=5", "latent_dim=2"),
    ]
    for each, metric in [
        *((e, "log_likelihood") for e in found),
        *((e, "elbo") for e in comparisons(sweep.parent, "elbo")),
    ]:
        a, b = (values(sweep, f"{each[name].replace('=', '_')}-*", metric) for name in ("setting", "against"))
        expected = difference(a, b)
        assert each["difference"] == pytest.approx(expected.mean)
        assert each["half_width"] == pytest.approx(expected.half_width)
        assert (each["seeds"], each["examples"], each["over_seeds"]) == ([2, 2], EXAMPLES, True)
    assert "`latent_dim=5` against `latent_dim=2`:\n\n- log p(x): better by 2.00 ± " in printed
    assert re.search(
        r"cannot be told apart: the second is 0.03 ± \S+ nats lower \(2 and 2 seeds, 179 examples\); (about|neither)",
        printed,
    )
    assert "written: comparison.md and comparison.json" in printed
    assert (sweep.parent / "comparison.md").read_text() in printed


@pytest.mark.parametrize(
    ("typed", "seeds"), [("[sweep/*_2-*,sweep/*_5-*]", [2, 2]), ("[sweep/*_2-seed_0,sweep/*_5-*]", [1, 2])]
)
def test_a_pattern_is_the_seeds_of_one_setting(typed: str, seeds: list[int], sweep: Path, run_compare: Run) -> None:
    printed = run_compare(f"runs={typed}", "output=here/latents").out
    (found,) = comparisons_of(sweep.parent / "here" / "latents.json")
    assert (found["setting"], sorted(found["seeds"]), found["over_seeds"]) == ("latent_dim=5", seeds, min(seeds) > 1)
    assert ("not their settings: train each setting with two or more seeds" in printed) == (min(seeds) == 1)


@pytest.mark.slow
def test_a_pattern_is_named_by_the_overrides_of_its_sweep(sweep: Path, run_compare: Run) -> None:
    jobs = [(f"decoder={name}", f"seed={seed}") for name in ("gaussian", "logistic") for seed in (0, 1)]
    for overrides in jobs:
        finished_job(sweep, *overrides, value=-30.0, pixels="unit")
    plan(sweep, *jobs)
    run_compare("runs=[sweep/decoder_gaussian-*,sweep/decoder_logistic-*]")
    (found,) = comparisons(sweep.parent)
    assert {found["setting"], found["against"]} == {"decoder=gaussian", "decoder=logistic"}


def comparisons_of(file: Path) -> list[dict[str, Any]]:
    (group,) = json.loads(file.read_text())["groups"]
    return [each for each in group["comparisons"] if each["metric"] == "log_likelihood"]


def test_two_seeds_of_a_setting_are_two_trained_models(sweep: Path, run_compare: Run) -> None:
    first, second = (f"sweep/latent_dim_2-seed_{seed}" for seed in (0, 1))
    printed = run_compare(f"runs=[{first},{second}]").out
    (found,) = comparisons(sweep.parent)
    assert (found["setting"], found["against"], found["over_seeds"]) == (f"runs={first}", f"runs={second}", False)
    assert found["half_width"] == pytest.approx(0.02, abs=0.01)  # the noise of examples that the two do not share
    assert "this compares trained models of one setting, which differ in their seed" in printed


def test_many_settings_are_compared_with_the_best(tmp_path: Path, run_compare: Run) -> None:
    for size in range(1, 13):
        finished_job(tmp_path / "sweep", f"latent_dim={size}", value=-30 + size)
    run_compare("runs=sweep")
    found = [(each["setting"], each["against"]) for each in comparisons(tmp_path)]
    assert found == [("latent_dim=12", f"latent_dim={size}") for size in range(11, 0, -1)]


def test_jobs_without_a_result_are_named(sweep: Path, run_compare: Run) -> None:
    killed_job(sweep, "latent_dim=2", "seed=2")
    killed_job(sweep, "latent_dim=7", "seed=0")
    finished_job(sweep, "decoder=gaussian", "latent_dim=2", "seed=0", value=3, pixels="unit")
    printed = run_compare("runs=sweep").out
    assert "2 (1 failed)" in printed
    assert "latent_dim=7` is left out: latent_dim_7-seed_0 is killed, expected a finished run." in printed
    assert ", and 2 more such pairs, are not compared, because they differ in pixels (" in printed
    assert len(comparisons(sweep.parent)) == 3


def test_a_label_is_shown_as_it_is_typed(tmp_path: Path, run_compare: Run) -> None:
    for name in ("a<b", "a*c"):
        finished_job(tmp_path / name, "seed=0", value=-3)
    printed = run_compare("runs=['a<b/seed_0','a*c/seed_0']").out
    assert "`runs=a<b/seed_0` against `runs=a*c/seed_0`" in printed


def test_a_seed_that_failed_before_it_stored_its_configuration_is_counted(sweep: Path, run_compare: Run) -> None:
    lost_job(sweep, "latent_dim=2", "seed=2")
    plan(sweep, *((f"latent_dim={size}", f"seed={seed}") for size in (2, 5, 9) for seed in (0, 1)))
    assert "2 (1 failed)" in run_compare("runs=sweep").out


# what is refused


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [
        ("[]", USAGE, ("needs two or more settings or runs, found none",)),
        ("[sweep/*_2-*]", USAGE, ("needs two or more settings or runs, found one in sweep/*_2-*",)),
        (
            "[sweep/*,sweep/*_2-*]",
            USAGE,
            ("sweep/* matches runs of several settings", "latent_dim (2 and 5)", "narrow"),
        ),
        ("[sweep,sweep/latent_dim_2-seed_0]", FAILURE, ("latent_dim_2-seed_0 is on two sides",)),
        ("[sweep,nowhere]", FAILURE, ("nowhere is no folder, and no run folder matches it",)),
        ("[sweep,empty]", FAILURE, ("empty holds no runs",)),
        ("{a:b}", USAGE, ("must be names of folders",)),
    ],
)
def test_sides_that_make_no_comparison_are_refused(
    typed: str, code: int, words: tuple[str, ...], sweep: Path, run_compare: Run
) -> None:
    (sweep.parent / "empty").mkdir()
    assert_one_line(run_compare(f"runs={typed}", code=code), *words)
    assert list(sweep.parent.glob("comparison*")) == []


def test_a_copied_run_is_no_second_seed(sweep: Path, run_compare: Run) -> None:
    shutil.copytree(sweep / "latent_dim_2-seed_0", sweep / "latent_dim_2-seed_0-copy")
    assert_one_line(run_compare("runs=[sweep]", code=USAGE), "has the same run twice, once as latent_dim_2-seed_0-copy")


@pytest.mark.parametrize(
    ("overrides", "data", "words"),
    [
        ((), {"seed": 1}, ("data seed (0, 1): train both with the same data.seed=",)),
        (
            (),
            {"sha256": dict.fromkeys(("train", "val", "test"), "0" * 64)},
            ("the images: train both with the same data=",),
        ),
        (("estimator.num_samples=7",), {}, ("refined K=7)", "vaelab.evaluate", "the same estimator=")),
        (("decoder=gaussian",), {"pixels": "unit"}, ("pixels (binary, unit)", "decoders for the same pixels")),
    ],
)
def test_runs_that_measure_other_things_are_not_compared(
    overrides: tuple[str, ...], data: dict[str, Any], words: tuple[str, ...], tmp_path: Path, run_compare: Run
) -> None:
    finished_job(tmp_path / "a", value=-3)
    with running_job(tmp_path / "b", *overrides, **{"pixels": "binary"} | data) as folder:
        folder.finish(metrics(-2.0))
    keep_values(folder.path, -2.0)
    outcome = run_compare(f"runs=[a/default,{folder.path.relative_to(tmp_path)}]", code=FAILURE)
    assert_one_line(outcome, "are not compared, because they differ in ", *words)


def test_densities_and_masses_are_evaluated_alike(tmp_path: Path) -> None:
    from vaelab.reporting.keys import remedy

    parts = {"pixels": ["unit", "levels"], "measure": ["density", "mass"]}
    assert remedy(parts).endswith("vaelab.evaluate run_dir=FOLDER for both, with the same measure=mass")


@pytest.mark.slow
def test_runs_without_stored_values_are_evaluated_again(
    copied: Path, tmp_path: Path, run_compare: Run, run_evaluate: Run
) -> None:
    other = Path(shutil.copytree(copied, tmp_path / "other"))
    for folder in (copied, other):
        (folder / "evaluations" / "test-last.safetensors").unlink()
    line = f"runs=[{copied.relative_to(tmp_path)},other]"
    assert_one_line(run_compare(line, code=FAILURE), "has no values of single examples: type python -m vaelab.evaluate")
    for folder in (copied, other):
        run_evaluate(f"run_dir={folder}", "inference_gap=false")
    run_compare(line)
    assert comparisons(tmp_path)[0]["difference"] == 0


# a stranger's folder


def test_a_strangers_texts_are_harmless(sweep: Path, run_compare: Run) -> None:
    for job in (sweep / "latent_dim_2-seed_0", sweep / "latent_dim_5-seed_0"):
        record = json.loads((job / "record.json").read_text())
        record["comparability"]["data"] = HOSTILE
        (job / "record.json").write_text(json.dumps(record))
        (job / "evaluations" / "test-last.safetensors").unlink()
        (job / "evaluations" / "test-last.safetensors").symlink_to("/etc/passwd")
    printed = run_compare("runs=sweep").out
    texts = [printed, *((sweep.parent / f"comparison.{ending}").read_text() for ending in ("md", "json"))]
    assert not [text for text in texts if "\x1b" in text]
    assert not [text for text in texts[:2] if "<script>" in text]
    assert r"\\x1b\[2Jdigits &lt;script" in printed
    assert "not compared: sweep/latent_dim_5-seed_0/evaluations/test-last.safetensors is a link" in printed


@pytest.mark.parametrize("content", [b"", b"\x08" + b"\x00" * 7 + b"not json", b"\xff" * 64])
def test_damaged_values_are_one_line(content: bytes, sweep: Path, run_compare: Run) -> None:
    (sweep / "latent_dim_2-seed_0" / "evaluations" / "test-last.safetensors").write_bytes(content)
    outcome = run_compare("runs=[sweep/*_2-*,sweep/*_5-*]", code=FAILURE)
    assert_one_line(outcome, "test-last.safetensors has no values of log_likelihood", "evaluate the run again")
