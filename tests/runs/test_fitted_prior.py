"""`python -m vaelab.evaluate prior=`: a prior that is fitted to a trained model's aggregate posterior."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributions as td
from safetensors.torch import load_file
from sklearn.mixture import GaussianMixture

from tests.helpers.choices import SMALL
from tests.helpers.commands import Outcome, Run, assert_one_line, composing, evaluation, failing_at, files_in, run_main
from tests.helpers.linear_gaussian import linear_gaussian
from vaelab import evaluate
from vaelab.evaluation import aggregate_fit
from vaelab.evaluation.aggregate_fit import refusal
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.priors import MixtureOfGaussians, StandardNormal, VampPrior
from vaelab.reporting.reading import read
from vaelab.runs.evaluating.fitted_prior import FittedPrior
from vaelab.runs.evaluating.session import Evaluation
from vaelab.runs.model import model_for
from vaelab.signals import Interrupted
from vaelab.sweeps.folder import Job

LINE = ("run_dir=run", "num_samples=5", "inference_gap=false")
MIXTURE = ("prior=mixture", "prior.num_components=3", "prior.covariance=full")
LABEL = "MixtureOfGaussians(num_components=3, covariance=full)"


@dataclass
class Fitted:
    """An evaluation with the model's own prior, then one with a fitted prior, and what scikit-learn did for it."""

    folder: Path
    before: dict[str, bytes]
    own: dict[str, Any]
    outcome: Outcome
    z: torch.Tensor
    mixture: GaussianMixture


@pytest.fixture(scope="module")
def fitted(finished: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """Of a finished run, Bernoulli, latent_dim=2, 179 test digits in two blocks; its folder is for reading only."""
    cwd, fits, fit = tmp_path_factory.mktemp("fitted"), [], GaussianMixture.fit
    folder = Path(shutil.copytree(finished.path, cwd / "run"))
    before = files_in(folder)
    run_main(evaluate.main, cwd, *LINE)
    own = evaluation(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate_fit, "NUM_SAMPLES", 3000)
        patch.setattr(GaussianMixture, "fit", lambda self, z: (fits.append((z, self)), fit(self, z))[1])
        outcome = run_main(evaluate.main, cwd, *LINE, *MIXTURE)
    ((z, mixture),) = fits
    return Fitted(folder, before, own, outcome, torch.as_tensor(z), mixture)


@pytest.fixture
def folder(fitted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of `fitted`, where a fit is quick and no figure is drawn."""
    monkeypatch.setattr(aggregate_fit, "NUM_SAMPLES", 3000)
    monkeypatch.setattr(FittedPrior, "draw", lambda self, path: None)
    return Path(shutil.copytree(fitted.folder, tmp_path / "run"))


def prior_file(folder: Path) -> Path:
    (file,) = (folder / "evaluations").glob("prior-last-*.safetensors")
    return file


def not_again(*args: Any) -> None:
    pytest.fail("it does again what is done")


@pytest.mark.slow
def test_it_raises_the_bound_of_a_trained_model(fitted: Fitted) -> None:
    own, found = fitted.own, evaluation(fitted.folder)
    for name in ("elbo", "log_likelihood"):
        assert found[f"test/{name}"] > own[f"test/{name}"] + 0.05
    assert found["test/marginal_kl"] < own["test/marginal_kl"] - 0.05
    assert found["test/reconstruction"] == own["test/reconstruction"]


@pytest.mark.slow
def test_it_shows_samples_and_says_which_prior(fitted: Fitted) -> None:
    (figure,) = (fitted.folder / "figures").glob("samples_MixtureOfGaussians-last-*.png")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert f"samples: {figure.relative_to(fitted.outcome.cwd)}" in fitted.outcome.out
    assert "prior fitted to the training data" in fitted.outcome.out


def test_the_runs_own_files_stay_as_they_were(fitted: Fitted) -> None:
    after = files_in(fitted.folder)
    assert {name: after[name] for name in fitted.before} == fitted.before


def test_its_numbers_are_ranked_apart_from_the_own_priors(fitted: Fitted) -> None:
    key = evaluation(fitted.folder)["comparability"]
    assert key == fitted.own["comparability"] | {"fitted_prior": LABEL}
    of_key = {
        result.key.get("fitted_prior"): result.numbers["elbo"] for result in read(Job(fitted.folder)).results[-2:]
    }
    assert of_key == {None: fitted.own["test/elbo"], LABEL: evaluation(fitted.folder)["test/elbo"]}


def test_the_stored_prior_is_what_scikit_learn_fitted(fitted: Fitted) -> None:
    prior = MixtureOfGaussians((2,), (1, 8, 8), 3, "full")
    prior.load_state_dict(load_file(prior_file(fitted.folder)))
    assert len(fitted.z) >= 3000
    expected = torch.as_tensor(fitted.mixture.score_samples(fitted.z.numpy()))
    torch.testing.assert_close(prior(not_again).log_prob(fitted.z.float()).double(), expected, rtol=0, atol=1e-4)


def test_what_is_done_is_not_done_again(folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MixtureOfGaussians, "fit", not_again)
    run_evaluate(*LINE, *MIXTURE, "limit=10")  # another evaluation with the same prior
    monkeypatch.setattr(Evaluation, "run", not_again)
    assert "evaluated before" in run_evaluate(*LINE, *MIXTURE).out


def test_an_interrupted_evaluation_goes_on(folder: Path, run_evaluate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = evaluation(folder)
    shutil.rmtree(folder / "evaluations")
    with monkeypatch.context() as patch:
        stopped = failing_at(2, EvaluationModule.test_step, Interrupted(15))
        patch.setattr(EvaluationModule, "test_step", lambda *args: stopped(*args))
        run_evaluate(*LINE, *MIXTURE, code=128 + 15)
    monkeypatch.setattr(MixtureOfGaussians, "fit", not_again)
    assert "1 of 2 blocks" in run_evaluate(*LINE, *MIXTURE).err
    assert evaluation(folder) == expected


@pytest.mark.slow
def test_a_damaged_prior_or_rerun_fits_again(folder: Path, run_evaluate: Run) -> None:
    stored = prior_file(folder).read_bytes()
    for wrong, more in ((b"damaged", "limit=10"), (stored[:-4] + b"1234", "rerun=true")):
        prior_file(folder).write_bytes(wrong)
        warned = "the prior is fitted again" in run_evaluate(*LINE, *MIXTURE, more).err
        assert warned == (more == "limit=10")
        assert prior_file(folder).read_bytes() == stored


@pytest.mark.slow
def test_several_processes_evaluate_with_one_fit(folder: Path) -> None:
    expected = evaluation(folder)
    for file in (folder / "evaluations").glob("test-last-importance*"):
        file.unlink()
    line = [sys.executable, "-m", "vaelab.evaluate", *LINE, *MIXTURE, "devices=2"]
    outcome = subprocess.run(line, capture_output=True, text=True, cwd=folder.parent, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert evaluation(folder)["test/elbo"] == pytest.approx(expected["test/elbo"], rel=1e-6)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("prior=standard_normal", ["StandardNormal has no parameters", "type prior=mixture"]),
        ("+prior.num_components=3", ["prior.num_components needs a choice: also type prior= (", "mixture"]),
    ],
)
def test_a_prior_without_parameters_is_refused(typed: str, words: list[str], folder: Path, run_evaluate: Run) -> None:
    before = files_in(folder)
    assert_one_line(run_evaluate("run_dir=run", typed, code=2), *words)
    assert files_in(folder) == before


def test_a_discrete_latent_is_refused_a_density(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, _ = linear_gaussian(3)
    prior = MixtureOfGaussians((3,), (1, 4, 5), 2).double()
    assert refusal(vae, prior) is None
    assert "has no parameters" in str(refusal(vae, StandardNormal((3,), (1, 4, 5))))
    monkeypatch.setattr(vae, "encode", lambda x: td.Independent(td.Bernoulli(torch.full((len(x), 3), 0.5)), 1))
    assert refusal(vae, prior) == (
        "MixtureOfGaussians needs a latent with elements in Real(), and those of q(z|x) lie in Boolean()"
    )


def test_vamp_may_be_fitted_to_categories() -> None:
    line = ("encoder=relaxed_categorical", "prior=categorical", "latent_dim=10")
    vae = model_for(composing(*SMALL, *line), (1, 8, 8)).eval()
    assert refusal(vae, VampPrior((10,), (1, 8, 8), num_pseudo_inputs=3)) is None
