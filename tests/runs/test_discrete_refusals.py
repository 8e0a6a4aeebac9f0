"""Parts that do not suit a discrete latent are refused in one line, before any work."""

import json

import pytest

from tests.helpers.choices import SMALL
from tests.helpers.commands import Run, composing
from vaelab.errors import ConfigError
from vaelab.runs.build import build
from vaelab.runs.evaluating.fitted_prior import FittedPrior
from vaelab.runs.model import check_parts

DISCRETE = ("encoder=relaxed_bernoulli", "prior=bernoulli")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("encoder=relaxed_bernoulli",), r"found Boolean\(\) and Real\(\): type prior=bernoulli"),
        (("prior=bernoulli",), r"found Real\(\) and Boolean\(\): type prior=bernoulli"),
        (
            ("encoder=relaxed_bernoulli", "prior=categorical", "latent_dim=10"),
            "found Boolean.* and groups of 10, each OneHot",
        ),
        (
            ("encoder=relaxed_categorical", "prior=categorical", "latent_dim=10", "prior.num_categories=5"),
            "found groups of 10, each OneHot.* and groups of 5, each OneHot",
        ),
        (("encoder=relaxed_categorical", "prior=categorical"), "latent_dim must be a multiple of num_categories=10"),
        (DISCRETE, "estimator=refined: it follows gradients in z, but z is discrete: type estimator=importance"),
        ((*DISCRETE, "estimator=ais"), "estimator=ais: it follows gradients"),
        ((*DISCRETE, "estimator=hmc"), "estimator=hmc: it follows gradients"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_suit_a_discrete_latent_is_refused(line: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_parts(composing(*SMALL, *line))
    assert "\n" not in str(caught.value)


def test_the_record_names_the_estimators_that_do_not_work(run_fast: Run) -> None:
    outcome = run_fast(*DISCRETE, "estimator=importance", "trainer.max_steps=2", "hydra.run.dir=there")
    record = json.loads((outcome.cwd / "there" / "record.json").read_text())
    assert record["refused_estimators"] == ["ais", "hmc", "refined"]


def test_a_prior_without_parameters_is_told_how_it_learns() -> None:
    cfg = composing(*SMALL, *DISCRETE, "estimator=importance")
    data, module = build(cfg)
    with pytest.raises(ConfigError, match=r"Bernoulli has no parameters.*: type the prior= .* prior.learned=true, or"):
        FittedPrior(cfg.prior, module.vae, data, seed=0)
    cfg.prior.learned = True
    assert FittedPrior(cfg.prior, module.vae, data, seed=0).label == "Bernoulli(temperature=0.5, learned=True)"


@pytest.mark.parametrize(
    "more", [("estimator=all",), ("estimator=importance", "prior=vamp", "prior.num_pseudo_inputs=5")]
)
def test_what_suits_a_discrete_latent_is_accepted(more: tuple[str, ...]) -> None:
    check_parts(composing(*SMALL, *DISCRETE, *more))
