"""Metrics are declared once, and whatever a run reports is declared."""

from tests.helpers.commands import Outcome, results
from vaelab.evaluation.declared import DECLARED, OF_BOUND, OF_ESTIMATE, OF_LATENT, OF_TRAINING, metric_of


def test_every_metric_of_a_run_is_declared(finished: Outcome) -> None:
    assert {name.rpartition("/")[2] for name in results(finished.path)} <= DECLARED.keys()


def test_no_metric_is_declared_twice() -> None:
    assert len(DECLARED) == len(OF_BOUND) + len(OF_LATENT) + len(OF_ESTIMATE) + len(OF_TRAINING)


def test_every_declared_metric_says_what_it_means() -> None:
    assert all(metric.label and metric.meaning for metric in DECLARED.values())


def test_a_full_name_leads_to_its_declaration() -> None:
    assert metric_of("best/test/ais/log_likelihood").label == "log p(x)"
    assert metric_of("val/bits_per_dim").badness(3.0) < metric_of("val/bits_per_dim").badness(4.0)
    assert metric_of("val/elbo").badness(-80.0) < metric_of("val/elbo").badness(-90.0)
    assert metric_of("test/of_my_own").shown(1.5) == "1.50"
