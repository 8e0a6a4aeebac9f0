"""Metrics are declared once, and whatever a run reports is declared."""

import pytest

from tests.helpers.commands import Outcome, results
from tests.helpers.linear_gaussian import linear_gaussian
from vaelab.errors import ConfigError
from vaelab.estimators import ImportanceSampling
from vaelab.evaluation.declared import (
    DECLARED,
    OF_BOUND,
    OF_ESTIMATE,
    OF_LATENT,
    OF_PREDICTIONS,
    OF_TRAINING,
    metric_of,
)
from vaelab.evaluation.lightning_module import EvaluationModule
from vaelab.metric import Metric
from vaelab.objectives import ELBO


def test_every_metric_of_a_run_is_declared(finished: Outcome) -> None:
    assert {name.rpartition("/")[2] for name in results(finished.path)} <= DECLARED.keys()


def test_metrics_are_declared_once_and_say_what_they_mean() -> None:
    assert len(DECLARED) == sum(map(len, (OF_BOUND, OF_LATENT, OF_PREDICTIONS, OF_ESTIMATE, OF_TRAINING)))
    assert all(metric.label and metric.meaning for metric in DECLARED.values())


def test_a_full_name_leads_to_its_declaration() -> None:
    assert metric_of("best/test/ais/log_likelihood").label == "log p(x)"
    assert metric_of("val/bits_per_dim").badness(3.0) < metric_of("val/bits_per_dim").badness(4.0)
    assert metric_of("val/elbo").badness(-80.0) < metric_of("val/elbo").badness(-90.0)
    assert metric_of("test/of_my_own").shown(1.5) == "1.50"


def test_what_an_objective_declares_comes_first() -> None:
    mine = Metric("bound", "my bound", unit="bits", better="lower")
    assert metric_of("test/bound", [mine]) is mine
    assert metric_of("test/elbo", [mine]) is DECLARED["elbo"]


@pytest.mark.parametrize("name", ["loss", "learning_rate"])
def test_an_objective_may_not_take_a_name_of_training(name: str) -> None:
    class Clashing(ELBO):
        metrics = (*ELBO.metrics, Metric(name, "mine"))

    with pytest.raises(ConfigError, match=f"Clashing declares the metric {name}, which training reports itself"):
        EvaluationModule(linear_gaussian(2)[0], Clashing(), ImportanceSampling())
