"""`python -m vaelab.evaluate`: what it writes and prints, whatever stops it, and however many processes it takes."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.commands import ROOT, Outcome, Run, assert_one_line, evaluation, fast, results, run_main
from vaelab import train
from vaelab.evaluation import trust
from vaelab.evaluation.comparability import name_of
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.evaluation.predictive import CHECKED, RANK_HISTOGRAM, predictive_summary
from vaelab.priors import StandardNormal
from vaelab.runs.evaluating.cache import LAYOUT
from vaelab.signals import Interrupted

AIS = ("num_temperatures=5", "num_chains=4", "num_leapfrogs=2")
HMC = ("num_burn_in=5", "num_draws=10", "num_chains=20")
QUICK_AIS = ("estimator=ais", *(f"estimator.{value}" for value in AIS))
QUICK_ALL = (
    "estimator=all",
    *(f"estimator.ais.{value}" for value in AIS),
    *(f"estimator.hmc.{value}" for value in HMC),
)


def without_samples(*overrides: str) -> list[str]:
    """The overrides of a short run whose estimator has no `num_samples`."""
    return [override for override in fast(*overrides) if not override.startswith("estimator.num_samples")]


def numbers(path: Path) -> dict[str, float]:
    return {name: value for name, value in evaluation(path).items() if name.startswith(("test/", "val/"))}


def values(path: Path) -> dict[str, torch.Tensor]:
    """The values of each example, of the only evaluation."""
    (file,) = (path / "evaluations").glob("test-last-*.safetensors")
    return load_file(file)


def change_weights(folder: Path, name: str, value: float) -> None:
    """Set a tensor of the last checkpoint to a value."""
    last = folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    checkpoint["state_dict"][name].fill_(value)
    torch.save(checkpoint, last)


PLAIN = ("run_dir=run", "inference_gap=false")  # the gap takes longer than all other numbers
SCALE = "vae.encoder.head.scale.layer.linear.bias"


@pytest.fixture
def folder(finished: Outcome, tmp_path: Path) -> Path:
    """A finished run's folder: Bernoulli, latent_dim=2, 180 test digits in two blocks."""
    return Path(shutil.copytree(finished.path, tmp_path / "run"))


@pytest.fixture(scope="module")
def trained_gaussian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("gaussian")
    return run_main(train.main, cwd, *fast("decoder=gaussian", "latent_dim=7", "trainer.max_epochs=3")).path


@pytest.fixture
def gaussian(trained_gaussian: Path, tmp_path: Path) -> Path:
    """A finished run's folder: Gaussian, latent_dim=7."""
    return Path(shutil.copytree(trained_gaussian, tmp_path / "run"))


# what it writes and prints


def test_it_says_what_the_numbers_can_be_compared_with(folder: Path, run_evaluate: Run) -> None:
    outcome = run_evaluate(*PLAIN, "limit=150", "estimator=importance", "num_samples=30")
    assert "first 150 of 179 examples" in outcome.out
    assert evaluation(folder)["comparability"] == {
        **{"data": "digits", "data_seed": 0, "split": "test", "examples": 150, "of": 179},
        "sha256": "3a15d0770d0c4d51d3f9d0b8b5fb2922aa92b773f9c3bc79a1ae269a6cd725f4",
        **{"event_shape": [1, 8, 8], "num_levels": 17, "pixels": "binary", "binarize": "dynamic"},
        **{"measure": "mass", "dequantizations": 1},
        "estimators": {"importance": {"num_samples": 30}},
    }


@pytest.mark.slow
def test_each_evaluation_keeps_its_values_example_by_example(folder: Path, run_evaluate: Run) -> None:
    run_evaluate(*PLAIN, "num_samples=30")
    columns, told = values(folder), evaluation(folder)
    assert sum(told["kl_per_dimension"]) == pytest.approx(told["test/kl"], rel=1e-5)
    total = told["test/mutual_information"] + told["test/marginal_kl"]
    assert total == pytest.approx(told["test/kl"], abs=0.5)  # one sample of each
    assert columns["log_likelihood"].shape == (179,)
    assert columns["log_likelihood"].double().mean().item() == pytest.approx(told["test/log_likelihood"], rel=1e-12)
    run_evaluate(*PLAIN, "limit=100")  # the beginning of the split
    assert numbers(folder)["test/elbo"] == pytest.approx(columns["elbo"][:100].double().mean().item(), rel=1e-12)
    check = predictive_summary(*(columns[name][:100].double() for name in CHECKED))
    assert {name: numbers(folder)[f"test/{name}"] for name in check} == pytest.approx(check, rel=1e-12)
    run_evaluate(*PLAIN, "split=val")
    assert numbers(folder)["val/elbo"] == results(folder)["val/elbo"]
    files = sorted((folder / "evaluations").glob("*.json"))
    assert [file.name.split("-")[:3] for file in files] == [
        [split, "last", "importance"] for split in ("test", "test", "val")
    ]
    assert told in [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
def test_the_inference_gap_is_split_unless_told_otherwise(folder: Path, run_evaluate: Run) -> None:
    out = run_evaluate("run_dir=run", "estimator=refined", "num_samples=30", "limit=50").out
    found = numbers(folder)
    gaps = [found[f"test/{name}_gap"] for name in ("amortization", "approximation")]
    error = math.hypot(*(found[f"test/{name}_error"] for name in ("amortization_gap", "gain")))
    assert sum(gaps) == pytest.approx(found["test/gain"], abs=4 * error)
    assert values(folder)["amortization_gap"].shape == (50,)
    assert found["test/fitted_elbo"] > found["test/elbo"] - 4 * error
    assert "amortisation gap" in out
    assert "approximation gap" in out
    assert "the encoder loses " in out
    assert "amortisation gap" not in run_evaluate(*PLAIN, "num_samples=30", "limit=50").out
    assert "test/amortization_gap" not in numbers(folder)


@pytest.mark.slow
def test_a_poor_proposal_gives_a_lower_bound_without_an_error(
    folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (*PLAIN, "num_samples=30")
    for poor, label in ((2.0, "log p(x)"), (-1.0, "lower bound")):  # more than every example, and than none
        monkeypatch.setattr(trust, "POOR", poor)
        row = re.search(rf"{re.escape(label)}, importance .*", run_evaluate(*command).out)
        assert row
        error = f"{numbers(folder)['test/standard_error']:.3f}"
        assert (error in row[0].split()) == (poor > 0)


# estimators


@pytest.mark.slow
def test_all_estimators_stand_side_by_side_under_one_prior(
    folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward, begin = StandardNormal.forward, EvaluationModule.begin
    with monkeypatch.context() as patched:
        patched.setattr(StandardNormal, "forward", lambda *args: (calls.append(1), forward(*args))[1])
        patched.setattr(EvaluationModule, "begin", lambda self: (calls.clear(), begin(self))[1])
        outcome = run_evaluate("run_dir=run", *QUICK_ALL, "num_samples=200")
    assert len(calls) == 1
    found = numbers(folder)
    for name in ("refined", "importance", "ais", "hmc"):
        assert math.isfinite(found[f"test/{name}/log_likelihood"])
        assert f", {name} " in outcome.out
    gap = found["test/ais/simulated_upper"] - found["test/ais/simulated_lower"]
    assert found["test/ais/simulated_gap"] == pytest.approx(gap)
    for text in ("KL of each latent dimension, largest first:", "of 2 units active", "posterior collapse", "apart"):
        assert text in outcome.out
    run_evaluate("run_dir=run", "estimator=importance", "num_samples=200")
    alone = numbers(folder)
    assert alone["test/log_likelihood"] == found["test/importance/log_likelihood"]
    assert alone["test/coverage_90"] == found["test/coverage_90"]


@pytest.mark.slow
def test_the_harmonic_estimator_is_refused_above_five_dimensions(
    gaussian: Path, run_evaluate: Run, run_train: Run
) -> None:
    outcome = run_evaluate("run_dir=run", "estimator=hmc", code=2)
    assert_one_line(outcome, "at most 5 dimensions, found latent_dim=7: type estimator=ais or importance or refined")
    assert {file.name for file in (gaussian / "evaluations").iterdir()} == {"test-last.safetensors"}
    run_train(*without_samples("latent_dim=6", "estimator=hmc"), code=2)
    outcome = run_evaluate(*PLAIN, *QUICK_ALL, "limit=10")
    assert "HMC with the harmonic identity was left out: it fits a density" in outcome.out
    assert not [name for name in evaluation(gaussian) if "hmc" in name]


@pytest.mark.slow
def test_training_may_end_with_any_estimator(run_train: Run) -> None:
    assert "log p(x), ais" in run_train(*without_samples(*QUICK_AIS)).out
    outcome = run_train(*without_samples(*QUICK_ALL, "name=all"))
    assert {"test/importance/log_likelihood", "test/hmc/log_likelihood"} <= results(outcome.path).keys()
    assert "log p(x), hmc" in outcome.out


def test_a_users_own_estimator_must_say_what_it_is(run_fast: Run) -> None:
    outcome = run_fast("estimator._target_=vaelab.objectives.ELBO", "~estimator.max_batch_elements", code=2)
    assert "expected a class with the members of vaelab.estimators.Estimator" in outcome.err


# densities as masses


@pytest.mark.slow
def test_a_density_is_scored_as_a_mass_over_levels(gaussian: Path, run_evaluate: Run) -> None:
    run_evaluate("run_dir=run", "num_samples=200")
    density = numbers(gaussian)
    run_evaluate("run_dir=run", "num_samples=200", "measure=mass")
    mass = numbers(gaussian)
    assert evaluation(gaussian)["comparability"]["pixels"] == "levels"
    assert evaluation(gaussian)["comparability"]["measure"] == "mass"
    assert mass["test/log_likelihood"] < 0
    assert mass["test/log_likelihood_bits_per_dim"] < density["test/log_likelihood_bits_per_dim"]


@pytest.mark.slow
def test_more_dequantizations_bound_the_mass_more_tightly(gaussian: Path, run_evaluate: Run) -> None:
    run_evaluate("run_dir=run", "num_samples=20")
    before = numbers(gaussian)
    masses = []
    for dequantizations in (2, 8):
        run_evaluate("run_dir=run", "num_samples=20", f"dequantizations={dequantizations}")
        found = numbers(gaussian)
        assert found["test/log_likelihood"] == before["test/log_likelihood"]
        masses.append(found["test/log_mass_bits_per_dim"])
    assert masses[1] < masses[0] < before["test/log_likelihood_bits_per_dim"]


def test_a_posterior_without_a_density_is_one_clear_line(folder: Path, run_evaluate: Run) -> None:
    change_weights(folder, SCALE, -1e9)
    outcome = run_evaluate("run_dir=run", code=1)
    assert "has no density at its own sample" in outcome.err
    assert outcome.err.count("\n") == 1


# going on


def interrupted_after(blocks: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Has an evaluation stop when it begins another block; returns the keys of those that it evaluates."""
    seen: list[Any] = []
    step = EvaluationModule.test_step

    def spy(self: EvaluationModule, block: Any, batch_idx: int) -> None:
        if len(seen) == blocks:
            raise Interrupted(2)
        seen.append(block.key)
        step(self, block, batch_idx)

    monkeypatch.setattr(EvaluationModule, "test_step", spy)
    return seen


@pytest.mark.parametrize(
    ("overrides", "first", "then"),
    [
        pytest.param(("inference_gap=false",), [(0, 0)], [(1, 0)], id="blocks"),
        pytest.param(
            *((*QUICK_AIS, "limit=50"), [(0, 0), (0, 1)], [(0, 2), (0, 3)]),
            id="parts of blocks",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_interrupted_evaluation_goes_on_with_what_is_left(
    overrides: tuple[str, ...], first: list[Any], then: list[Any], folder: Path, run_evaluate: Run
) -> None:
    command = ("run_dir=run", *overrides)
    run_evaluate(*command)
    expected = evaluation(folder)
    with pytest.MonkeyPatch.context() as patched:
        seen = interrupted_after(len(first), patched)
        outcome = run_evaluate(*command, "rerun=true", code=130)
        assert seen == first
        assert f"stopped; {len(first)} blocks are stored: type the same command to continue" in outcome.err
        assert {file.suffix for file in (folder / "evaluations").iterdir()} == {".json", ".safetensors"}  # no lock
    with pytest.MonkeyPatch.context() as patched:
        seen = interrupted_after(9, patched)
        assert f"resuming: {len(first)} of {len(first + then)} blocks" in run_evaluate(*command).err
        assert seen == then
    assert evaluation(folder) == expected
    assert not list((folder / "evaluations").glob("*part*"))


@pytest.mark.slow
def test_an_evaluation_that_was_done_is_not_done_again(
    folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_evaluate(*PLAIN)
    expected = evaluation(folder)
    seen = interrupted_after(9, monkeypatch)
    same = ("estimator=importance", "num_samples=2", "estimator.max_batch_elements=999")  # memory changes no number
    assert "evaluated before (rerun=true evaluates again)" in run_evaluate(*PLAIN, *same).out
    assert seen == []
    assert evaluation(folder) == expected
    run_evaluate(*PLAIN, "rerun=true")
    assert seen == [(0, 0), (1, 0)]
    assert evaluation(folder) == expected
    change_weights(folder, "vae.decoder.head.logits.linear.bias", 0.1)  # which makes it another evaluation
    assert "written:" in run_evaluate(*PLAIN).out
    assert evaluation(folder)["test/elbo"] != expected["test/elbo"]


def test_stored_values_that_lack_the_check_are_evaluated_again(
    folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_evaluate(*PLAIN)
    expected, (file,) = evaluation(folder), (folder / "evaluations").glob("test-last-*.safetensors")
    columns = load_file(file)
    position = 2 + sorted(columns.keys() - {LAYOUT}).index(RANK_HISTOGRAM)
    kept = [i for i in range(columns[LAYOUT].shape[1]) if i != position]
    columns[LAYOUT] = columns[LAYOUT][:, kept].contiguous()
    save_file({name: column for name, column in columns.items() if name != RANK_HISTOGRAM}, file)
    seen = interrupted_after(9, monkeypatch)
    assert "its blocks do not fit" in run_evaluate(*PLAIN).err
    assert seen == [(0, 0), (1, 0)]
    assert evaluation(folder) == expected


# several processes


def command(folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it, in a process of its own."""
    line = [sys.executable, "-m", "vaelab.evaluate", f"run_dir={folder}", *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums are then those of this process
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=600, check=False)


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes(folder: Path, run_evaluate: Run) -> None:
    overrides = (*QUICK_ALL, "rerun=true")
    run_evaluate("run_dir=run", *overrides)
    expected = evaluation(folder)
    outcome = command(folder, *overrides, "devices=3")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    for name, value in numbers(folder).items():
        assert value == pytest.approx(expected[name], rel=1e-6, abs=1e-6), name
    assert evaluation(folder)["comparability"] == expected["comparability"]
    assert values(folder)["elbo"].shape == (179,)


@pytest.mark.slow
def test_a_failing_process_ends_the_others_and_says_why(folder: Path) -> None:
    change_weights(folder, SCALE, -1e9)
    outcome = command(folder, "devices=2")
    assert outcome.returncode == 1
    assert "of 2 failed:" in outcome.stderr
    assert "has no density" in outcome.stderr
    assert not (folder / "evaluation.json").exists()


# W&B


@pytest.mark.slow
def test_an_evaluation_joins_the_runs_own_wandb_run(run_fast: Run, run_evaluate: Run) -> None:
    from tests.helpers.wandb_files import Read, wandb_files

    path = run_fast("logger=wandb", "logger.project=mine").path
    (first,) = wandb_files(path)
    run_evaluate(f"run_dir={path}", "num_samples=30", "wandb_mode=disabled")
    assert wandb_files(path) == [first]
    run_evaluate(f"run_dir={path}", "num_samples=30")
    (second,) = set(wandb_files(path)) - {first}
    one, other = Read(first), Read(second)
    assert other.run["run_id"] == one.run["run_id"]
    assert other.run["project"] == "mine"
    estimate, key = evaluation(path)["test/log_likelihood"], evaluation(path)["comparability"]
    assert other.last("evaluation/test/log_likelihood") == estimate
    assert other.last(f"evaluation/within/{name_of(key)}/log_likelihood") == estimate
    assert other.exit_code == 0
